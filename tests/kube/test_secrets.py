"""Secrets under a ServiceAccount: who may read what, how to grant it, how long it is believed."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator

import pytest
import yaml

from backendhealth.core.observation import MAX_MESSAGE, clip
from backendhealth.core.reasons import Reason
from backendhealth.kube.api import connect
from backendhealth.kube.secrets import KEPT_WITHOUT_SERVER, SecretReader
from backendhealth.probes.exchange import ProbeError
from tests.kube.secretshelp import ACCOUNT, World, world
from tests.probes.support import PLANTED
from tests.servers.kubernetes import ControlPlane

DATA = {"username": "me", "password": PLANTED}


@pytest.fixture
async def granted(control_plane: ControlPlane, namespace: str) -> AsyncIterator[World]:
    async with world(control_plane, namespace) as found:
        yield found


async def failed(secrets: object, name: str = "redis") -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await secrets.read(name)  # type: ignore[attr-defined]
    return caught.value


# The grants, and the lines that make them


@pytest.mark.parametrize(
    ("account", "secret", "left_over"),
    [
        (ACCOUNT, "redis", False),
        (ACCOUNT, "redis", True),
        ("a" * 253, "s" * 253, False),
        ("dots.and-dashes", "x.y", False),
    ],
)
async def test_each_message_ends_with_the_line_that_grants_what_it_misses(
    control_plane: ControlPlane, namespace: str, account: str, secret: str, left_over: bool
):
    async with world(control_plane, namespace, granted=False) as found:
        found.put(secret, DATA)
        secrets = found.secrets("redis", account=account)
        for reason, told in (
            (Reason.SECRET_FORBIDDEN, "the operator may not act as"),
            (Reason.SECRET_FORBIDDEN, "may not read"),
            (Reason.SECRET_NOT_ALLOWED, "does not allow"),
        ):
            error = await found.outcome(secrets, secret)
            assert error is not None
            assert error.reason is reason
            assert told in error.message
            assert clip(error.message) == error.message
            assert PLANTED not in error.message
            assert len(error.message) <= MAX_MESSAGE
            found.run(error.message)
            if left_over and reason is Reason.SECRET_FORBIDDEN:  # half of it may be there already
                binding = error.message.split("rolebinding ")[1].split()[0]
                found.kubectl("delete", "rolebinding", binding)
                found.run(error.message)
            deadline = time.monotonic() + 20  # the API server learns of a grant in its own time
            while (error_now := await found.outcome(secrets, secret)) and error_now.message == error.message:
                assert time.monotonic() < deadline, error.message
        assert await secrets.read(secret) == {"username": b"me", "password": PLANTED.encode()}


async def test_the_request_is_made_as_the_service_account(granted: World):
    granted.put("redis", DATA, allow="placeos")
    start = granted.plane.audit_log.stat().st_size
    await granted.secrets().read("redis")
    seen = [event for event in granted.plane.audited(start) if event.get("objectRef", {}).get("name") == "redis"]
    users = {event["impersonatedUser"]["username"] for event in seen if "impersonatedUser" in event}
    assert users == {f"system:serviceaccount:{granted.namespace}:{ACCOUNT}"}


async def test_without_an_account_nothing_is_asked_for(granted: World):
    granted.put("redis", DATA, allow="*")
    error = await failed(granted.secrets(account=None))
    assert error.reason is Reason.SECRET_FORBIDDEN
    assert "set spec.serviceAccountName" in error.message
    assert granted.reads == []
    manifest = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "placeos", "namespace": granted.namespace},
        "spec": {"probes": [{"name": "redis", "redis": {"url": "redis://redis:6379"}}]},
    }
    granted.plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(manifest))
    granted.run(error.message)
    set_to = granted.kubectl("get", "backendhealth", "placeos", "-o", "jsonpath={.spec.serviceAccountName}")
    assert set_to == "backendhealth"


async def test_another_account_and_another_namespace_get_nothing(granted: World):
    granted.put("redis", DATA, allow="*")
    assert (await failed(granted.secrets(account="other"))).reason is Reason.SECRET_FORBIDDEN
    assert (await failed(granted.secrets(namespace="kube-system"))).reason is Reason.SECRET_FORBIDDEN
    assert await granted.secrets().read("redis")


# What the owner allows


async def test_only_the_resources_that_the_owner_names(granted: World):
    granted.put("redis", DATA, allow="other,third")
    assert await granted.secrets(name="other").read("redis")
    error = await failed(granted.secrets())
    assert error.reason is Reason.SECRET_NOT_ALLOWED
    granted.run(error.message)
    assert await granted.outcome(granted.secrets(), "redis") is None
    for name in ("other", "third"):  # whom the owner named before is not forgotten
        assert await granted.secrets(name=name).read("redis")


async def test_a_target_elsewhere_is_refused_and_named(granted: World):
    granted.put("redis", DATA, allow="*", allow_hosts="redis,*.db.svc,10.0.0.0/8")
    assert await granted.secrets("redis", "a.db.svc", "10.1.2.3").read("redis")
    secrets = granted.secrets("redis", "evil.test")
    error = await failed(secrets)
    assert error.reason is Reason.SECRET_NOT_ALLOWED
    assert "evil.test" in error.message
    granted.run(error.message)
    assert await granted.outcome(secrets, "redis") is None
    assert await granted.secrets("a.db.svc").read("redis")


async def test_a_host_that_is_learnt_later_is_checked(granted: World):
    granted.put("redis", DATA, allow="*", allow_hosts="redis,10.0.0.0/8")
    granted.put("free", DATA, allow="*")
    secrets = granted.secrets("redis")
    secrets.check_host("evil.test")  # nothing was read, nothing can be sent
    await secrets.read("free")
    secrets.check_host("evil.test")
    await secrets.read("redis")
    for host in ("redis", "10.9.9.9"):
        secrets.check_host(host)
    with pytest.raises(ProbeError, match=r"its use with evil\.test") as caught:
        secrets.check_host("evil.test")
    assert caught.value.reason is Reason.SECRET_NOT_ALLOWED


async def test_hosts_that_the_owner_strikes_out_in_mid_attempt_are_refused_at_once(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets("redis")
    await secrets.read("redis")
    granted.put("redis", DATA, allow="*", allow_hosts="redis")
    granted.clock.now += 61
    await secrets.read("redis")
    with pytest.raises(ProbeError, match="does not allow its use"):
        secrets.check_host("learnt.test")
    assert await secrets.changed()


# How long it is believed


async def test_many_who_ask_cost_one_request(granted: World):
    granted.put("redis", DATA, allow="*")
    asking = [granted.secrets(name=f"n{number}") for number in range(50)]
    await asyncio.gather(*(secrets.read("redis") for secrets in asking))
    assert granted.reads == [200]
    granted.clock.now += 59
    await asking[0].read("redis")
    assert granted.reads == [200]
    granted.clock.now += 2
    await asyncio.gather(*(secrets.read("redis") for secrets in asking))
    assert granted.reads == [200] * 2


async def test_a_refusal_is_asked_about_again_soon_but_not_each_time(granted: World):
    secrets = granted.secrets()
    for _ in range(20):
        assert (await failed(secrets)).reason is Reason.SECRET_NOT_FOUND
    assert granted.reads == [404]
    granted.put("redis", DATA, allow="other")
    granted.clock.now += 6
    for _ in range(20):
        assert (await failed(secrets)).reason is Reason.SECRET_NOT_ALLOWED
    assert granted.reads == [404, 200]
    granted.put("redis", DATA, allow="placeos")
    granted.clock.now += 6
    assert await secrets.read("redis")
    assert granted.reads == [404, 200, 200]


async def test_after_a_refused_password_it_is_read_anew_but_not_in_a_hurry(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets()
    await secrets.read("redis")
    granted.put("redis", {"password": "new"}, allow="*")
    for _ in range(20):
        secrets.distrust()
        await secrets.read("redis")
    assert granted.reads == [200]
    granted.clock.now += 1.5
    assert await secrets.read("redis") == {"password": b"new"}
    granted.clock.now += 30
    await secrets.read("redis")
    assert granted.reads == [200] * 2


async def test_what_changes_what_a_connection_was_made_with(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets("redis")
    assert not await secrets.changed()
    await secrets.read("redis")

    async def changed() -> bool:
        granted.clock.now += 61
        return await secrets.changed()

    granted.kubectl("label", "secret", "redis", "about=nothing")
    assert not await changed()
    granted.put("redis", {"password": "new"}, allow="*")
    assert await changed()
    await secrets.read("redis")
    assert await changed()  # a connection made with the old one may still be there
    secrets.release()
    await secrets.read("redis")
    assert not await changed()
    for refused in ({"allow": "other"}, {"allow": "*", "allow_hosts": "elsewhere"}):
        granted.put("redis", {"password": "new"}, **refused)
        assert await changed()
        granted.put("redis", {"password": "new"}, allow="*")
        assert not await changed()
    granted.kubectl("delete", "secret", "redis")
    assert await changed()


async def test_a_grant_that_is_taken_away_ends_the_use(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets()
    await secrets.read("redis")
    granted.kubectl("delete", "rolebinding", "reads")
    deadline = time.monotonic() + 20
    while not await secrets.changed():
        assert time.monotonic() < deadline
        granted.clock.now += 61
    assert (await failed(secrets)).reason is Reason.SECRET_FORBIDDEN


# The API server is away


async def test_while_the_server_hangs_what_was_read_is_used_for_a_while(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets, never_read = granted.secrets(), granted.secrets()
    await secrets.read("redis")
    granted.plane.pause()
    try:
        granted.clock.now += 61
        began = time.monotonic()
        assert await secrets.read("redis")
        assert time.monotonic() - began < 2
        began = time.monotonic()
        for _ in range(10):
            assert await secrets.read("redis")
            assert not await secrets.changed()
        assert time.monotonic() - began < 0.5  # only the first waits for news
        assert (await failed(never_read, "other")).reason is Reason.SECRET_UNAVAILABLE
        granted.clock.now += KEPT_WITHOUT_SERVER
        assert await secrets.changed()
        error = await failed(secrets)
        assert error.reason is Reason.SECRET_UNAVAILABLE
        assert error.message.startswith("Secret redis can't be read: the API server at https://")
    finally:
        granted.plane.resume()
    assert await granted.outcome(secrets, "redis", Reason.SECRET_UNAVAILABLE) is None


async def test_a_server_that_is_gone_is_not_asked_at_every_attempt(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets()
    granted.plane.stop_api()
    try:
        for _ in range(20):
            assert (await failed(secrets)).reason is Reason.SECRET_UNAVAILABLE
        assert granted.reads == [0]
    finally:
        granted.plane.start_api()
    assert await granted.outcome(secrets, "redis", Reason.SECRET_UNAVAILABLE) is None


async def test_our_own_token_that_has_ended_says_nothing_about_the_account(granted: World):
    granted.put("redis", DATA, allow="*")
    config = granted.plane._pki.kubeconfig("ended", granted.plane.url, "no-such-token")
    async with await connect(str(config), None) as api:
        reader = SecretReader(api)
        error = await failed(reader.of(granted.namespace, "placeos", ACCOUNT, frozenset()))
    assert error.reason is Reason.SECRET_UNAVAILABLE
    assert error.message == "Secret redis can't be read: the API server answers 401"


# What is left behind


async def test_no_value_shows_and_nothing_is_logged(granted: World, caplog: pytest.LogCaptureFixture):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets()
    with caplog.at_level(logging.DEBUG, "backendhealth"):
        await secrets.read("redis")
        await failed(secrets, "other")
    assert PLANTED not in repr([vars(secrets), vars(granted.reader), *granted.reader._entries.values()])
    assert caplog.text == ""


async def test_what_nobody_uses_any_more_is_forgotten(granted: World):
    granted.put("redis", DATA, allow="*")
    one, other = granted.secrets(), granted.secrets()
    await one.read("redis")
    await other.read("redis")
    del one
    gc.collect()
    key = (granted.namespace, ACCOUNT, "redis")
    assert key in granted.reader._entries
    del other
    gc.collect()
    assert key not in granted.reader._entries


async def test_closing_ends_what_is_being_read(granted: World):
    granted.put("redis", DATA, allow="*")
    secrets = granted.secrets()
    granted.plane.pause()
    try:
        reading = asyncio.create_task(secrets.read("redis"))
        while not any(entry.reading for entry in granted.reader._entries.values()):
            await asyncio.sleep(0)
        began = time.monotonic()
        await granted.reader.close()
        await asyncio.wait([reading])
        assert time.monotonic() - began < 1
        assert reading.cancelled()
    finally:
        granted.plane.resume()
