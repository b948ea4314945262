"""examples/policy.yaml on a real API server: with what it says the operator gets the key of an action, else not."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator

import pytest
import yaml

from backendhealth.actions.ports import Refused
from backendhealth.core.spec.actions import RestartDriver
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.kube.placeoshttp import PlaceosHttp
from backendhealth.probes.dialer import Dialer
from tests.kube.secretshelp import World, world
from tests.probes.support import PLANTED
from tests.servers.http import HttpServer
from tests.servers.kubernetes import ControlPlane
from tests.shipping.support import ROOT, Object, apply, of_kind

PATH = "/api/engine/v2/cluster"
EXAMPLE = ROOT / "examples" / "policy.yaml"
LINE = re.compile(r"kubectl -n placeos (annotate secret .*)")


@pytest.fixture
async def owned(control_plane: ControlPlane, namespace: str) -> AsyncIterator[World]:
    async with world(control_plane, namespace) as found:
        yield found


def objects(namespace: str) -> list[Object]:
    """The example's, put into a namespace."""
    found: list[Object] = [one for one in yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8")) if one]
    for one in found:
        one["metadata"]["namespace"] = namespace
    return found


async def asked(owned: World, server: HttpServer, host: str = "127.0.0.1") -> str:
    """What asking by the example's own rule comes to; empty when the key is used."""
    (raw,) = of_kind(objects(owned.namespace), "RemediationPolicy")
    policy = RemediationPolicy.model_validate(raw)
    actions = (step.restart_driver for rule in policy.spec.remediation_rules for step in rule.steps)
    action = next(one for one in actions if isinstance(one, RestartDriver))
    action = action.model_copy(update={"url": f"http://{host}:{server.port}"})
    owned.clock.now += 100
    opened = PlaceosHttp(Dialer(), owned.reader).of(
        owned.namespace, policy.metadata.name, policy.spec.service_account_name or "", []
    )
    http = opened(action)
    try:
        await http.ask("GET", PATH)
    except Refused as error:
        return f"{error.message}{error.remedy}"
    finally:
        await http.close()
    return ""


@pytest.mark.parametrize("page", [EXAMPLE, ROOT / "docs" / "how-to" / "permissions.md"])
async def test_the_owner_allows_the_policy_by_the_line_that_is_told(
    owned: World, control_plane: ControlPlane, namespace: str, page: object
):
    assert hasattr(page, "read_text")
    line = LINE.search(page.read_text(encoding="utf-8"))
    assert line
    accounts = of_kind(objects(namespace), "ServiceAccount", "Role", "RoleBinding")
    for one in accounts:
        for subject in one.get("subjects", ()):
            subject["namespace"] = namespace
    apply(control_plane, accounts)
    with HttpServer() as server:
        server.on(PATH, body=b"[]")
        owned.put("placeos-admin", {"key": PLANTED})
        assert "backendhealth.dev/allow" in await asked(owned, server)
        owned.kubectl(*shlex.split(line[1].replace("allow-hosts=api", "allow-hosts=127.0.0.1")))
        assert await asked(owned, server) == ""
        assert "host" in await asked(owned, server, "localhost")
