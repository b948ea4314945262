"""What the tests of actions on drivers share: an Acting, and the drivers' component as the probe sees it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from backendhealth.actions.ports import Acting, Cluster, Http, Outcome, Performer
from backendhealth.core.remediation.situation import Component, Subject
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget
from backendhealth.core.verdict import Verdict
from backendhealth.kube.placeoshttp import PlaceosHttp
from backendhealth.kube.secrets import SecretReader
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import Exchange, run_attempt
from tests.placeos.support import World
from tests.probes.placeos.helpers import PLANTED
from tests.probes.support import MemorySecrets
from tests.servers.placeos import PlaceOS

BY_KEY = {"apiKeySecretRef": {"name": "api", "key": "key"}}
BY_PLAIN_KEY = {"apiKeySecretRef": {"name": "api", "key": "plain"}}
BY_PASSWORD = {"auth": {"secretRef": {"name": "user"}}}
KEY = PlaceOS.driver_key("driver-probe")


class KnownSecrets(MemorySecrets):
    """Secrets that anybody may use."""

    def __init__(self) -> None:
        api = {"key": PlaceOS.api_key, "plain": PlaceOS.plain_key}
        super().__init__({"api": api, "user": {"username": PlaceOS.username, "password": PlaceOS.password}})

    def of(self, *_: object) -> KnownSecrets:
        return self

    def check_host(self, host: str) -> None:
        """Any."""

    def distrust(self) -> None:
        """They don't change."""


@dataclass
class Scene:
    """One Remediation's surroundings; `before` is done when the fence has been passed, before the effect."""

    url: str
    log_in: dict[str, Any] = field(default_factory=lambda: dict(BY_KEY))
    before: Callable[[], object] = lambda: None
    within: str = "8s"
    notes: list[str] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)

    def acting(self) -> Acting:
        """What a performer is handed."""

        async def fence(line: str) -> None:
            self.fenced.append(line)
            self.before()

        reader = cast("SecretReader", KnownSecrets())
        opened = PlaceosHttp(Dialer(), reader).of("placeos", "placeos", "remediator", self.notes)
        return Acting("placeos", cast("Cluster", None), opened, time.time, fence)

    def action(self, kind: str, **more: object) -> dict[str, Any]:
        """As in YAML."""
        return {kind: {"url": self.url, "runningWithin": self.within, **self.log_in, **more}}

    def spec(self, kind: str, target: RemediationTarget) -> RemediationSpec:
        """A Remediation's."""
        raw = {"policyRef": {"name": "placeos"}, "action": self.action(kind), "notAfter": "2100-01-01T00:00:00Z"}
        return RemediationSpec.model_validate({**raw, "target": target.model_dump(by_alias=True, exclude_none=True)})

    def http(self, kind: str = "restartDriver") -> Http:
        """The API as the action asks it."""
        target = RemediationTarget(kind="Driver", name=KEY)
        return self.acting().http(self.spec(kind, target).action.does)  # type: ignore[arg-type]

    def leaks_nothing(self, *more: object) -> None:
        """No secret of the platform is in what was noted or told."""
        told = "\n".join([*self.notes, *self.fenced, *map(repr, more), *map(str, more)])
        assert not [one for one in PLANTED if one in told], told


async def component(exchange: Exchange) -> Component:
    """The drivers as the probe sees them now."""
    found = await run_attempt(exchange, 5.0)
    bad = [Subject(one.subject, one.reason.value) for one in found.subjects if one.reason.verdict is Verdict.UNHEALTHY]
    return Component("drivers", found.verdict, found.reason.value, found.message, time.time(), subjects=tuple(bad))


async def verified(performer: Performer, scene: Scene, spec: RemediationSpec, outcome: Outcome) -> str | None:
    """What it comes to within the action's own time, as the operator asks."""
    acting, deadline = scene.acting(), time.monotonic() + 12
    while (told := await performer.verified(acting, spec, outcome.facts)) is None and time.monotonic() < deadline:
        pass  # each asking takes its time
    return told


def home(world: World, driver: str = "driver-probe") -> str:
    """The core that runs the driver."""
    return next(core for core in world.platform.cores if world.driver(core, driver))


def other(world: World) -> str:
    """A core that does not run driver-probe."""
    return next(core for core in world.platform.cores if core != home(world))


def freeze_driver(world: World, core: str) -> None:
    """SIGSTOP to one of core's driver processes."""
    pid = world.platform.pid(core)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGSTOP)
