"""Whose Secrets an action on PlaceOS may use, and where it may send them: on a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from backendhealth.actions.ports import Refused, Silent
from backendhealth.core.reach import Reach
from backendhealth.core.spec.actions import RestartDriver
from backendhealth.kube.placeoshttp import PlaceosHttp
from backendhealth.probes.dialer import Dialer
from tests.kube.secretshelp import ACCOUNT, World, world
from tests.probes.support import PLANTED
from tests.servers.http import HttpServer
from tests.servers.kubernetes import ControlPlane

PATH = "/api/engine/v2/cluster"


@pytest.fixture
async def granted(control_plane: ControlPlane, namespace: str) -> AsyncIterator[World]:
    async with world(control_plane, namespace) as found:
        yield found


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as found:
        found.on(PATH, body=b"[]")
        yield found


async def asked(
    granted: World, server: HttpServer, *, policy: str = "placeos", account: str = ACCOUNT, dialer: Dialer | None = None
) -> Refused | None:
    """What asking comes to, with nothing said of the Secret."""
    granted.clock.now += 100
    notes: list[str] = []
    action = RestartDriver.model_validate(
        {"url": f"http://127.0.0.1:{server.port}", "apiKeySecretRef": {"name": "admin", "key": "key"}}
    )
    http = PlaceosHttp(dialer or Dialer(), granted.reader).of(granted.namespace, policy, account, notes)(action)
    refused = None
    try:
        reply = await http.ask("GET", PATH)
        assert (reply.status, reply.json) == (200, [])
        assert notes == [f"GET http://127.0.0.1:{server.port}{PATH} → 200"]
    except Refused as error:
        refused = error
    finally:
        await http.close()
    told = f"{notes} {refused!r} {refused} {refused and refused.message} {refused and refused.remedy} {http!r}"
    assert PLANTED not in told
    return refused


async def test_a_secret_that_its_owner_allows_the_policy(granted: World, server: HttpServer):
    granted.put("admin", {"key": PLANTED}, allow="remediationpolicy/placeos", allow_hosts="127.0.0.1")
    assert await asked(granted, server) is None
    assert server.requests[0].headers["x-api-key"] == PLANTED


@pytest.mark.parametrize("allow", ["placeos", "*", "remediationpolicy/other", ""])
async def test_what_a_backendhealth_is_allowed_is_no_policys(granted: World, server: HttpServer, allow: str):
    granted.put("admin", {"key": PLANTED}, allow=allow)
    refused = await asked(granted, server)
    assert refused is not None
    assert refused.reason == "SecretNotAllowed"
    assert "does not allow RemediationPolicy placeos to use it" in refused.message
    assert server.requests == []
    granted.run(f"`{refused.remedy}`")
    assert await asked(granted, server) is None


async def test_another_account(granted: World, server: HttpServer):
    granted.put("admin", {"key": PLANTED}, allow="remediationpolicy/*")
    refused = await asked(granted, server, account="other")
    assert refused is not None
    assert refused.reason == "SecretForbidden"
    assert "ServiceAccount other may not read Secret admin" in refused.message
    assert refused.remedy.startswith("kubectl ")
    assert server.requests == []


async def test_another_host_than_the_secret_is_bound_to(granted: World, server: HttpServer):
    granted.put("admin", {"key": PLANTED}, allow="remediationpolicy/placeos", allow_hosts="api,10.0.0.0/8")
    refused = await asked(granted, server)
    assert refused is not None
    assert refused.reason == "SecretNotAllowed"
    assert server.requests == []


async def test_an_address_that_nobody_may_connect_to(granted: World, server: HttpServer):
    granted.put("admin", {"key": PLANTED}, allow="remediationpolicy/placeos")
    guarded = Dialer(guard=Reach((), (), frozenset()).refusal)
    refused = await asked(granted, server, dialer=guarded)
    assert refused is not None
    assert refused.reason == "AddressRefused"
    assert server.requests == []


async def test_a_key_that_the_secret_does_not_have(granted: World, server: HttpServer):
    granted.put("admin", {"other": PLANTED}, allow="remediationpolicy/placeos")
    refused = await asked(granted, server)
    assert refused is not None
    assert refused.reason == "SecretKeyMissing"
    assert server.requests == []


async def test_nobody_listens(granted: World, server: HttpServer):
    granted.put("admin", {"key": PLANTED}, allow="remediationpolicy/placeos")
    server.close()
    refused = await asked(granted, server)
    assert refused is not None
    assert refused.reason == "ConnectionRefused"


async def test_no_answer_is_no_refusal(granted: World, server: HttpServer):
    granted.put("admin", {"key": PLANTED}, allow="remediationpolicy/placeos")
    server.on(PATH, hangs=True)
    notes: list[str] = []
    action = RestartDriver.model_validate(
        {"url": f"http://127.0.0.1:{server.port}", "apiKeySecretRef": {"name": "admin", "key": "key"}}
    )
    http = PlaceosHttp(Dialer(), granted.reader).of(granted.namespace, "placeos", ACCOUNT, notes)(action)
    with pytest.raises(Silent, match=r"no answer within 0\.3 s"):
        await http.ask("DELETE", PATH, timeout=0.3)
    await http.close()
    assert notes == [f"DELETE http://127.0.0.1:{server.port}{PATH} → no answer"]
