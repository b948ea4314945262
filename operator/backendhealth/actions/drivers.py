"""A PlaceOS driver's process ended on one core, which launches it anew; or a driver loaded anew on all cores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from backendhealth.actions import drivercluster as cluster
from backendhealth.actions.drivercluster import Gone, Placed, told
from backendhealth.actions.ports import Acting, Effect, Http, Outcome, Refused, Reply, Silent
from backendhealth.core.durations import seconds
from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.remediation.situation import Component
from backendhealth.core.spec.actions import AnyAction, DriverAction, ReloadDriver, RestartDriver
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget

STEADY = 5.0
"""Seconds that a driver must run without another launch to count as running; less where the action has little time."""
GIVEN_UP = 4
"""Launches after which a driver that still does not stay is told to crash again."""
RELOADING = 100.0
"""Seconds that reloading on all cores may take, a compilation among them."""
_SUBJECT = "driver/"
_NO_PROCESS = frozenset({Reason.DRIVER_COMPILE_FAILED.value, Reason.DRIVER_MISSING.value})
_ALL_FAILED, _SOME_FAILED, _TIMED_OUT = 422, 417, 408


class RestartDriverPerformer:
    """See actions.ports.Performer. A target is one driver on one core."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:
        """The drivers that the component's probe names, on the cores where it names them."""
        wanted = _wanted(action, component, without=_NO_PROCESS)
        # one that is launched again and again is not meant by its number: it would have another at each look
        looping = {name for name, reason in wanted.items() if reason == Reason.DRIVER_CRASH_LOOPING.value}
        return [
            RemediationTarget(
                kind="Driver",
                name=one.driver.key,
                core=one.core.id,
                restart_count=None if one.subject in looping else one.driver.launches,
            )
            for one in await _found(acting, action, wanted)
        ]

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """End the process, if it is the one that was meant."""
        http = acting.http(_restart(spec.action.does))
        try:
            return await _restarted(acting, http, spec.target)
        finally:
            await http.close()

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether it was launched anew and stays."""
        action = _restart(spec.action.does)
        before, core = int(facts.get("launchCount", "0")), facts.get("core", "")
        http = acting.http(action)
        try:
            seen = await _launches(http, spec.target.name, core, before)
            if not isinstance(seen, int):
                return seen
            await asyncio.sleep(_steady(action))
            again = await _launches(http, spec.target.name, core, before)
        finally:
            await http.close()
        return "" if again == seen else None if isinstance(again, int) else again


class ReloadDriverPerformer:
    """See actions.ports.Performer. A target is one driver on all cores."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:
        """The drivers that the component's probe names, each once."""
        wanted = _wanted(action, component, without=frozenset({Reason.DRIVER_MISSING.value}))
        keys = dict.fromkeys(one.driver.key for one in await _found(acting, action, wanted))
        return [RemediationTarget(kind="Driver", name=key) for key in keys]

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """Have it loaded anew on all cores."""
        action = _reload(spec.action.does)
        http = acting.http(action)
        try:
            return await _reloaded(acting, http, spec.target.name, min(RELOADING, seconds(action.running_within)))
        finally:
            await http.close()

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether it runs on as many cores as before, with all modules loaded, and stays."""
        action, cores = _reload(spec.action.does), int(facts.get("cores", "1"))
        http = acting.http(action)
        try:
            seen = await _all_loaded(http, spec.target.name, cores)
            if not isinstance(seen, dict):
                return seen
            await asyncio.sleep(_steady(action))
            again = await _all_loaded(http, spec.target.name, cores)
        finally:
            await http.close()
        return "" if again == seen else None if isinstance(again, dict) else again


async def _restarted(acting: Acting, http: Http, target: RemediationTarget) -> Outcome:
    try:
        meant = await _meant(http, target)
    except Gone as gone:
        return Outcome(Effect.NOT_DONE, clip(str(gone)))
    except Silent as silent:
        return Outcome(Effect.NOT_DONE, clip(f"{silent}: nothing was done"))
    key, core, driver = meant.driver.key, meant.core, meant.driver
    if meant.key_unavailable:
        return Outcome(Effect.NOT_DONE, _does_not_compile(meant))
    if target.restart_count is not None and driver.launches != target.restart_count:
        return Outcome(Effect.NOT_DONE, f"{key} was launched again meanwhile on {core.name}: nothing was done")
    facts = {"core": core.id, "launchCount": str(driver.launches or 0), **_seen(meant)}
    path = f"{cluster.CLUSTER}/{core.id}"
    await acting.fence(f"restart driver {key} on {core.name}: DELETE {path}?driver={key}")
    try:
        reply = await http.ask("DELETE", path, query={"driver": key})
    except Silent as silent:
        return Outcome(Effect.UNKNOWN, clip(f"unknown whether {key} was ended on {core.name}: {silent}"), facts)
    return _judged(reply, f"end {key} on {core.name}", f"{key} was ended on {core.name}, which launches it anew", facts)


async def _reloaded(acting: Acting, http: Http, key: str, timeout: float) -> Outcome:
    try:
        before = await cluster.placed(http, key)
        driver = await cluster.driver_id(http, key)
    except Gone as gone:
        return Outcome(Effect.NOT_DONE, clip(str(gone)))
    except Silent as silent:
        return Outcome(Effect.NOT_DONE, clip(f"{silent}: nothing was done"))
    path = f"{cluster.DRIVERS}/{driver}/reload"
    facts = {"cores": str(len(before)), "driver": driver}
    await acting.fence(f"reload driver {key} on all cores: POST {path}")
    try:
        reply = await http.ask("POST", path, timeout=timeout)
    except Silent as silent:
        return Outcome(Effect.UNKNOWN, clip(f"unknown whether {key} was loaded anew: {silent}"), facts)
    if reply.status == _SOME_FAILED:
        return Outcome(Effect.DONE, clip(f"{key} was loaded anew on some cores, others failed: {told(reply)}"), facts)
    if reply.status == _ALL_FAILED:
        failed = f"no core has loaded {key} anew: {told(reply)}"
        if await _untouched(http, key, before):
            return Outcome(Effect.NOT_DONE, clip(f"{failed}; it runs as before"), facts)
        return Outcome(Effect.UNKNOWN, clip(f"{failed}; it does not run as before"), facts)
    return _judged(reply, f"load {key} anew", f"{key} was loaded anew on all cores", facts)


def _judged(reply: Reply, what: str, done: str, facts: Mapping[str, str]) -> Outcome:
    """What an answer says of the effect. After a 500 nobody knows: the API may have asked a core already."""
    if 200 <= reply.status < 300:
        return Outcome(Effect.DONE, clip(done), facts)
    if reply.status >= 500 or reply.status == _TIMED_OUT:
        return Outcome(Effect.UNKNOWN, clip(f"asked to {what}, PlaceOS answers {told(reply)}"), facts)
    return Outcome(Effect.NOT_DONE, clip(f"PlaceOS refuses to {what}: {told(reply)}"), facts)


async def _untouched(http: Http, key: str, before: Sequence[Placed]) -> bool:
    try:
        return await cluster.placed(http, key) == [*before]
    except (Gone, Silent, Refused):
        return False


async def _meant(http: Http, target: RemediationTarget) -> Placed:
    """The target as it is now. Raises Gone, Refused, Silent."""
    on = await cluster.placed(http, target.name, target.core)
    if len(on) > 1:
        names = ", ".join(one.core.name for one in on[:8])
        raise Gone(f"{target.name} runs on several cores ({names}): name one")
    return on[0]


async def _found(acting: Acting, action: AnyAction, wanted: Iterable[str]) -> list[Placed]:
    """The drivers of those subjects that there are now."""
    names = frozenset(wanted)
    if not names:
        return []
    http = acting.http(_driver_action(action))
    try:
        return [one for one in await cluster.all_placed(http) if one.subject in names]
    finally:
        await http.close()


def _wanted(action: AnyAction, component: Component, *, without: frozenset[str]) -> dict[str, str]:
    """Subjects of drivers that the component's probe names and the action means, with their reasons."""
    keys = tuple(_driver_action(action).drivers) or ("",)
    return {
        one.name: one.reason
        for one in component.subjects
        if one.name.startswith(_SUBJECT) and one.reason not in without and one.name.rpartition("/")[2].startswith(keys)
    }


async def _launches(http: Http, key: str, core: str, before: int) -> int | str | None:
    """How often it has been launched, when it runs again; else None, or why it never will."""
    try:
        driver = (await cluster.placed(http, key, core))[0].driver
    except Gone as gone:
        return clip(str(gone))
    count = driver.launches or 0
    if count >= before + GIVEN_UP and not driver.running:
        return f"{key} crashes again at once: launched {count - before} times since{_ended(driver.exit_code)}"
    return count if count > before and driver.running else None


async def _all_loaded(http: Http, key: str, cores: int) -> dict[str, int | None] | str | None:
    """Launches by core, when it runs on all with its modules; else None, or why it never will."""
    try:
        on = await cluster.placed(http, key)
    except Gone:
        return None  # a core may be at it
    broken = next((one for one in on if one.key_unavailable), None)
    if broken is not None:
        return _does_not_compile(broken)
    loaded = [
        one
        for one in on
        if one.driver.running and one.driver.modules is not None and one.driver.modules >= (one.driver.instances or 0)
    ]
    return {one.core.id: one.driver.launches for one in on} if len(loaded) == len(on) >= cores else None


def _does_not_compile(one: Placed) -> str:
    key, core = one.driver.key, one.core
    return clip(f"{key} does not compile on {core.name}: {core.unavailable[key]}", cluster.QUOTED)


def _seen(one: Placed) -> dict[str, str]:
    driver = one.driver
    told = {"running": driver.running, "modules": driver.modules, "lastExitCode": driver.exit_code}
    return {name: str(value).lower() for name, value in told.items() if value is not None}


def _ended(code: int | None) -> str:
    return "" if code is None else f", its last exit code is {code}"


def _steady(action: RestartDriver | ReloadDriver) -> float:
    return min(STEADY, seconds(action.running_within) / 4)


def _driver_action(action: AnyAction) -> DriverAction:
    if not isinstance(action, DriverAction):
        raise TypeError("not an action on drivers")
    return action


def _restart(action: AnyAction) -> RestartDriver:
    if not isinstance(action, RestartDriver):
        raise TypeError("not restartDriver")
    return action


def _reload(action: AnyAction) -> ReloadDriver:
    if not isinstance(action, ReloadDriver):
        raise TypeError("not reloadDriver")
    return action
