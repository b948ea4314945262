"""When pods' logs are looked through, whose, and what is kept of them: nothing but what a signature has found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backendhealth.core.observation import clip
from backendhealth.core.patterns import compiled_signature
from backendhealth.core.pods import Pod
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.profile import Signature
from backendhealth.core.spec.status import BackendHealthStatus

AGAIN = 30.0
"""Seconds after which logs are read again while something is unexplained, or they could not be read."""
SOONEST = 10.0
"""Seconds between two readings at least, however often it changes what fails."""
MAX_PODS = 5
"""Pods of one probe whose logs are read."""
MAX_FOUND = 16
"""Texts that are kept of one probe's pods."""
MAX_TEXT = 512
"""Characters of each of them."""
MAX_LINE = 4096
"""Bytes of a line that are looked at."""
RECENTLY = 600.0
"""Seconds for which what a container logged before it was started again is of interest."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What fails of a resource: components and symptoms."""

    failing: frozenset[str]
    unexplained: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of the logs: what failed then, and when (in seconds of a monotonic clock)."""

    failing: frozenset[str]
    at: float
    unread: bool = False
    """Some could not be read: a grant may be missing, which somebody gives meanwhile."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log of a container; `previous`: of its run before the last restart."""

    pod: str
    container: str
    previous: bool = False


def readers(resource: BackendHealth) -> tuple[Probe, ...]:
    """The probes whose pods' logs may be looked through."""
    return tuple(probe for probe in resource.spec.probes if probe.pods and probe.pods.logs)


def wrong(status: BackendHealthStatus) -> Wrong:
    """What fails, by the diagnosis."""
    told = status.diagnosis
    if told is None:
        return Wrong(frozenset(), unexplained=False)
    names = [one.component for one in told.root_causes]
    names += [one.name for one in told.explained]
    names += [one.name for one in told.unexplained]
    return Wrong(frozenset(names), unexplained=bool(told.unexplained))


def due_at(now_wrong: Wrong, last: Reading | None, now: float) -> float | None:
    """When to read; None: not while nothing changes. What has come to fail is news, what works again is none."""
    if not now_wrong.failing:
        return None
    if last is None:
        return now
    if now_wrong.failing - last.failing:
        return last.at + SOONEST
    return last.at + AGAIN if now_wrong.unexplained or last.unread else None


def chosen(pods: Iterable[Pod], container: str | None, now: float) -> list[Log]:
    """The logs to read: of pods in trouble first, then the newest; without a `container` of each pod's first one."""
    found = []
    for pod in sorted(pods, key=lambda pod: (pod.ready, -pod.created, pod.name))[:MAX_PODS]:
        mine = next((one for one in pod.containers if not one.init and container in (None, one.name)), None)
        if mine is None:
            continue
        found.append(Log(pod.name, mine.name))
        if mine.last is not None and now - mine.last.at <= RECENTLY:
            found.append(Log(pod.name, mine.name, previous=True))
    return found


def found_in(lines: Iterable[bytes], signatures: Sequence[Signature]) -> tuple[str, ...]:
    """What signatures find in the lines, each text once, the newest last; only the part that matched is kept."""
    patterns = [compiled_signature(one.pattern) for one in signatures]
    found: dict[str, None] = {}
    for line in lines:
        head = line[:MAX_LINE].decode(errors="replace").encode()
        for pattern in patterns:
            match = pattern.search(head)
            if match is not None:
                text = clip(match.group().decode(errors="replace"), MAX_TEXT)
                found.pop(text, None)
                found[text] = None
    return tuple(found)[-MAX_FOUND:]
