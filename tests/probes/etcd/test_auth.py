"""Users, passwords and tokens of etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes import etcd_stubs
from backendhealth.probes.exchange import run_attempt
from tests.probes.etcd.helpers import exchange, subject
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers.etcd import (
    Cluster,
    Member,
    Options,
    admin,
    change_password,
    enable_auth,
    raise_corrupt_alarm,
    token_for,
)

ROOT = "root-password"
USER = "probe"
AUTH = {"secretRef": {"name": "etcd"}}


def secrets(password: str = PLANTED, **more: str) -> MemorySecrets:
    return MemorySecrets({"etcd": {"username": USER, "password": password, **more}})


@pytest.fixture
def guarded() -> Iterator[Member]:
    """A member that asks for a password; the user may touch the keys under health/ only; tokens live for 1 s."""
    with Cluster(1, Options(token_ttl_seconds=1)) as cluster:
        member = cluster.members[0]
        with admin(member) as stubs:
            enable_auth(stubs, root_password=ROOT, user=USER, password=PLANTED, prefix="health/")
        yield member


async def tokens_have_ended(member: Member) -> None:
    """Wait until every token that has not been used since now has expired."""
    request = etcd_stubs.messages().RangeRequest(key=b"health/probe")
    with admin(member) as stubs:
        unused = [token_for(stubs, USER, PLANTED) for _ in range(20)]  # looking at one renews it: one look for each

        for metadata in unused:
            await asyncio.sleep(0.5)
            try:
                stubs.kv.Range(request, timeout=5, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    return
                raise
    pytest.fail("no token has expired within 10 s")


async def test_signs_in_and_keeps_the_token(guarded: Member) -> None:
    async with exchange(guarded.url, auth=AUTH, key="health/probe", secrets=secrets()) as kept:
        first = await run_attempt(kept, 5)
        second = await run_attempt(kept, 5)
    assert (first.reason, second.reason) == (Reason.PROBE_SUCCEEDED, Reason.PROBE_SUCCEEDED)
    assert "auth" in first.steps
    assert "auth" not in second.steps
    assert "keyDenied" not in first.facts


async def test_auth_missing(guarded: Member) -> None:
    with admin(guarded) as stubs:
        rpc = etcd_stubs.messages()
        with pytest.raises(grpc.RpcError) as refused:
            stubs.kv.Range(rpc.RangeRequest(key=b"x"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finding = await attempt_once("etcd", {"endpoints": [guarded.url]})
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert finding.verdict is Verdict.UNKNOWN
    assert f"{guarded.address}: etcd asks for a user and the probe has none: set auth.secretRef" in finding.message


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("nobody", PLANTED)])
async def test_bad_password(guarded: Member, user: str, password: str) -> None:
    held = MemorySecrets({"etcd": {"username": user, "password": password}})
    finding = await attempt_once("etcd", {"endpoints": [guarded.url], "auth": AUTH}, held)
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert f"{guarded.address}: etcd does not accept the user and password of auth.secretRef" in finding.message
    assert subject(finding, f"endpoint/{guarded.address}").reason is Reason.AUTHENTICATION_FAILED
    assert not planted(finding)


async def test_denied_key_still_proves_the_quorum(guarded: Member) -> None:
    finding = await attempt_once("etcd", {"endpoints": [guarded.url], "auth": AUTH, "key": "other"}, secrets())
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == "the quorum answers: leader etcd-0; the key is denied to the probe's user"
    assert finding.facts["keyDenied"] is True


async def test_expired_token_is_renewed_within_the_attempt(guarded: Member) -> None:
    async with exchange(guarded.url, auth=AUTH, key="health/probe", secrets=secrets()) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        await tokens_have_ended(guarded)
        finding = await run_attempt(kept, 5)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert "auth" in finding.steps
    assert "connect" not in finding.steps


async def test_password_rotated_while_running(guarded: Member) -> None:
    held = secrets()
    async with exchange(guarded.url, auth=AUTH, key="health/probe", secrets=held) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        change_password(guarded, root_password=ROOT, user=USER, password="n3w")
        late = await run_attempt(kept, 5)
        assert late.reason is Reason.AUTHENTICATION_FAILED
        assert "etcd does not accept the user and password of auth.secretRef" in late.message
        held.data["etcd"]["password"] = "n3w"
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        change_password(guarded, root_password=ROOT, user=USER, password="n3wer")
        held.data["etcd"]["password"] = "n3wer"
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED


async def test_auth_switched_on_while_running(member: Member) -> None:
    async with exchange(member.url, auth=AUTH, secrets=secrets()) as kept:
        before = await run_attempt(kept, 5)
        assert before.reason is Reason.PROBE_SUCCEEDED  # etcd asks nobody for a password
        with admin(member) as stubs:
            enable_auth(stubs, root_password=ROOT, user=USER, password=PLANTED, prefix="backendhealth")
        after = await run_attempt(kept, 5)
    assert after.reason is Reason.PROBE_SUCCEEDED
    assert "auth" in after.steps
    assert "keyDenied" not in after.facts


async def test_secret_missing(healthy: Member) -> None:
    finding = await attempt_once("etcd", {"endpoints": [healthy.url], "auth": AUTH})
    assert finding.reason is Reason.SECRET_NOT_FOUND
    assert "Secret etcd does not exist" in finding.message


async def test_key_missing(healthy: Member) -> None:
    held = MemorySecrets({"etcd": {"username": USER}})
    finding = await attempt_once("etcd", {"endpoints": [healthy.url], "auth": AUTH}, held)
    assert finding.reason is Reason.SECRET_KEY_MISSING
    assert "Secret etcd has no key password" in finding.message


async def test_a_secret_that_cannot_be_read_in_time(healthy: Member) -> None:
    class Hanging(MemorySecrets):
        async def read(self, name: str) -> dict[str, bytes]:
            await asyncio.get_running_loop().create_future()
            return {}

    for target in (
        {"endpoints": [healthy.url], "auth": AUTH},
        {"endpoints": [f"https://{healthy.address}"], "tls": {"caSecretRef": {"name": "ca"}}},
    ):
        finding = await attempt_once("etcd", target, Hanging(), timeout=0.5)
        assert finding.reason is Reason.SECRET_UNAVAILABLE
        assert finding.verdict is Verdict.UNKNOWN
        assert "reading the probe's Secret took longer than 0.35 s" in finding.message


async def test_an_alarm_is_worse_than_a_missing_password(member: Member) -> None:
    """What is known for sure counts more than what the probe may not see."""
    raise_corrupt_alarm(member)
    finding = await attempt_once("etcd", {"endpoints": [member.url], "auth": AUTH}, secrets())
    assert finding.reason is Reason.ALARM_CORRUPT
    assert "the alarm CORRUPT is on" in finding.message


async def test_frozen_between_status_and_sign_in(guarded: Member) -> None:
    """SIGSTOP in the middle of a probe: it hangs in the step that came next, and the quorum is not blamed."""

    class Freezing(MemorySecrets):
        async def read(self, name: str) -> dict[str, bytes]:
            guarded.process.freeze()
            return dict(await super().read(name))

    held = Freezing(secrets().data)
    finding = await attempt_once("etcd", {"endpoints": [guarded.url], "auth": AUTH}, held, timeout=1)
    assert finding.reason is Reason.TIMEOUT
    assert f"{guarded.address}: no answer within 0.7 s: it hung in step auth" in finding.message


async def test_frozen_in_mid_probe_on_a_kept_connection(guarded: Member) -> None:
    class Freezing(MemorySecrets):
        armed = False

        async def read(self, name: str) -> dict[str, bytes]:
            if self.armed:
                guarded.process.freeze()
            return dict(await super().read(name))

    held = Freezing(secrets().data)
    async with exchange(guarded.url, auth=AUTH, key="health/probe", secrets=held) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        await tokens_have_ended(guarded)
        held.armed = True
        finding = await run_attempt(kept, 1)
        assert finding.reason is Reason.TIMEOUT
        assert "it hung in step auth" in finding.message
        held.armed = False
        guarded.process.resume()
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
