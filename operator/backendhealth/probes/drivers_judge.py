"""From what cores tell of their drivers to one finding: pure, the time and the history of launches are handed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from backendhealth.core.durations import human, seconds
from backendhealth.core.observation import MAX_SUBJECTS, Fact, Finding, SubjectFinding, clip
from backendhealth.core.placeoscluster import Core, Driver
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import DriversProbe

STEADY = 20.0
"""Seconds without a launch after which a driver counts as steady; longer for one that crashed less often."""
_PACES = 1.5
"""Times that it took from one launch to the next, without one, after which it counts as steady."""
_LINES = 3
"""Lines of a compiler's output that are told."""

Launches = Mapping[tuple[str, str], tuple[tuple[float, int], ...]]
"""By core and driver's place: when (seconds) which launch_count was first seen, oldest first; the first from before."""

_ORDER = (
    Reason.DRIVER_COMPILE_FAILED,
    Reason.DRIVER_CRASH_LOOPING,
    Reason.DRIVER_NOT_RUNNING,
    Reason.DRIVER_MISSING,
    Reason.MODULES_NOT_LOADED,
    Reason.PROBE_SUCCEEDED,
)


def remembered(history: Launches, cores: Sequence[Core], now: float, window: float) -> Launches:
    """The history with the present counts; what is older than `window` is dropped, and what started from anew."""
    kept: dict[tuple[str, str], tuple[tuple[float, int], ...]] = {}
    for core in cores:
        for driver in core.drivers or ():
            key = (core.name, driver.place)
            seen = history.get(key, ())
            if driver.launches is None:
                kept |= {key: seen} if seen else {}
                continue
            if not seen or driver.launches < seen[-1][1]:  # core itself was started anew
                kept[key] = ((now, driver.launches),)
                continue
            old = [entry for entry in seen if entry[0] <= now - window]
            seen = (*old[-1:], *(entry for entry in seen if entry[0] > now - window))
            kept[key] = seen if seen[-1][1] == driver.launches else (*seen, (now, driver.launches))
    # a core that does not tell now may tell again
    silent = {core.name for core in cores if core.drivers is None}
    return {key: seen for key, seen in history.items() if key[0] in silent} | kept


def judged(target: DriversProbe, cores: Sequence[Core], history: Launches, now: float, *, all_seen: bool) -> Finding:
    """What the cores tell of their drivers; `history` is `remembered` with them.

    `all_seen` is whether there is no core but these: a driver that is missed may run on one that can't be asked.
    """
    subjects = [one for core in cores for one in _of_core(target, core, history, now)]
    silent = [core.name for core in cores if core.drivers is None]
    if all_seen and not silent:
        subjects += _missing(target, cores)
    failing = [one for one in subjects if one.reason is not Reason.PROBE_SUCCEEDED]
    facts: dict[str, Fact] = {"cores": len(cores), "drivers": len(subjects), "failing": len(failing)}
    if failing:
        worst = Counter(one.reason for one in failing)
        reason = max(worst, key=lambda one: (worst[one], -_ORDER.index(one)))
        return Finding(reason, _told(failing, reason, len(subjects)), _bounded(subjects), facts)
    if silent:
        told = f"the drivers of {', '.join(silent[:8])} can't be told: core does not answer the API in time"
        return Finding(Reason.API_UNAVAILABLE, clip(told), _bounded(subjects), facts)
    told = f"{len(subjects)} drivers run on {len(cores)} cores" if len(cores) > 1 else f"{len(subjects)} drivers run"
    return Finding(Reason.PROBE_SUCCEEDED, told, _bounded(subjects), facts)


def looping(target: DriversProbe, seen: Sequence[tuple[float, int]], now: float) -> int:
    """Launches within the window where they are too many and it has not calmed down; else 0."""
    rises = seen[-1][1] - seen[0][1] if seen else 0
    if rises <= target.maximum_launches:
        return 0
    pace = (seen[-1][0] - seen[0][0]) / rises
    return rises if now - seen[-1][0] < max(STEADY, _PACES * pace) else 0


def _of_core(target: DriversProbe, core: Core, history: Launches, now: float) -> list[SubjectFinding]:
    found = [
        SubjectFinding(
            f"driver/{core.name}/{name}",
            Reason.DRIVER_COMPILE_FAILED,
            clip(f"{name} does not compile on {core.name}: {first_lines(why)}"),
            _facts(core, None),
        )
        for name, why in core.unavailable.items()
    ]
    for driver in core.drivers or ():
        if driver.key not in core.unavailable:
            rises = looping(target, history.get((core.name, driver.place), ()), now)
            reason, told = _of_driver(target, driver, rises)
            subject = f"driver/{core.name}/{driver.place}"
            name = f"{driver.key} on edge {driver.edge}" if driver.edge else driver.key
            found.append(SubjectFinding(subject, reason, clip(f"{name} {told}"), _facts(core, driver)))
    return found


def _of_driver(target: DriversProbe, driver: Driver, rises: int) -> tuple[Reason, str]:
    ended = f"; its last exit code is {driver.exit_code}" if driver.exit_code is not None else ""
    if rises:
        window = human(seconds(target.launch_window))
        return Reason.DRIVER_CRASH_LOOPING, f"was launched {rises} times within {window}{ended}"
    if driver.running is False:
        return Reason.DRIVER_NOT_RUNNING, f"does not run{ended}"
    if driver.trouble:
        return Reason.DRIVER_NOT_RUNNING, f"does not answer core: {driver.trouble}"
    if driver.modules is not None and driver.instances is not None and driver.modules < driver.instances:
        return Reason.MODULES_NOT_LOADED, f"has {driver.modules} of its {driver.instances} modules loaded"
    return Reason.PROBE_SUCCEEDED, "runs"


def first_lines(output: str) -> str:
    """The first lines of a compiler's output that say anything, on one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return clip(" / ".join(lines[:_LINES]), 400) or "nothing is said of why"


def _missing(target: DriversProbe, cores: Sequence[Core]) -> list[SubjectFinding]:
    known = {one.key for core in cores for one in core.drivers or ()} | {
        name for core in cores for name in core.unavailable
    }
    return [
        SubjectFinding(f"driver/*/{name}", Reason.DRIVER_MISSING, f"{name} is required and runs on no core")
        for name in target.required
        if not any(key.startswith(name) for key in known)
    ]


def _facts(core: Core, driver: Driver | None) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"coreId": core.id} if core.id else {}
    if driver is not None and driver.edge:
        facts["edge"] = driver.edge
    if driver is not None and driver.launches is not None:
        facts["launchCount"] = driver.launches
    if driver is not None and driver.exit_code is not None:
        facts["lastExitCode"] = driver.exit_code
    return facts


def _told(failing: Sequence[SubjectFinding], reason: Reason, total: int) -> str:
    first = min((one for one in failing if one.reason is reason), key=lambda one: one.subject)
    if len(failing) == total > 1:
        return clip(f"all {total} drivers are in trouble, for example {first.message}")
    more = len(failing) - 1
    others = f"; {more} more {'is' if more == 1 else 'are'} in trouble" if more else ""
    return clip(f"{first.message}{others} (of {total} drivers)")


def _bounded(subjects: Sequence[SubjectFinding]) -> tuple[SubjectFinding, ...]:
    """The worst, and a healthy one if there is any: whether all are in trouble is what a diagnosis looks at."""
    ranked = sorted(subjects, key=lambda one: (_ORDER.index(one.reason), one.subject))
    kept = ranked[:MAX_SUBJECTS]
    if ranked[MAX_SUBJECTS:] and ranked[-1].reason is Reason.PROBE_SUCCEEDED:
        kept[-1] = ranked[-1]
    return tuple(sorted(kept, key=lambda one: one.subject))
