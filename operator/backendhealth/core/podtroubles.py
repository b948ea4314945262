"""What ails one pod: the reason and the words for it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backendhealth.core.durations import human
from backendhealth.core.observation import clip
from backendhealth.core.pods import Container, Ended, Pod
from backendhealth.core.reasons import Reason

SETTLING = 60.0
"""Seconds that a pod may take to become ready before that is told as trouble, as long as there are enough others."""
BACK_OFF_RESET = 600.0
"""Seconds after which the kubelet forgets earlier crashes: a container that ends again within them keeps crashing."""
STEADY = 20.0
"""Seconds that a container which keeps crashing must run before it is believed to be ready: in between it is, too."""
_KEEPS_CRASHING = 2  # restarts within the window: fewer may be one bad moment
_MAX_TEXT = 240
_OUT_OF_MEMORY = "OOMKilled"
_URL = re.compile(r"(\w+://)(?:[^\s/@\"']*@)?([^\s?\"']*)(?:\?[^\s\"']*)?")

_WAITING: dict[str, Reason] = {
    "CrashLoopBackOff": Reason.CRASH_LOOP_BACK_OFF,
    "ImagePullBackOff": Reason.IMAGE_PULL_FAILED,
    "ErrImagePull": Reason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": Reason.IMAGE_PULL_FAILED,
    "InvalidImageName": Reason.IMAGE_PULL_FAILED,
    "ImageInspectError": Reason.IMAGE_PULL_FAILED,
    "RegistryUnavailable": Reason.IMAGE_PULL_FAILED,
    "SignatureValidationFailed": Reason.IMAGE_PULL_FAILED,
    "CreateContainerConfigError": Reason.CONTAINER_CONFIG_ERROR,
    "CreateContainerError": Reason.CONTAINER_START_FAILED,
    "RunContainerError": Reason.CONTAINER_START_FAILED,
    "PreCreateHookError": Reason.CONTAINER_START_FAILED,
    "PreStartHookError": Reason.CONTAINER_START_FAILED,
    "PostStartHookError": Reason.CONTAINER_START_FAILED,
}
"""What the kubelet calls a container's waiting, where that is more than a moment of starting."""
BY_WORTH = (
    Reason.OOM_KILLED,
    Reason.CONTAINER_CONFIG_ERROR,
    Reason.CONTAINER_START_FAILED,
    Reason.IMAGE_PULL_FAILED,
    Reason.CRASH_LOOP_BACK_OFF,
    Reason.UNSCHEDULABLE,
    Reason.CONTAINER_EXITED,
    Reason.POD_FAILED,
    Reason.POD_NOT_READY,
    Reason.RESTARTS_RISING,
)
"""Troubles by how much they explain, the most telling first."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ails a pod.

    `passing`: it may well be a pod that is just starting. `unready`: it does not count as ready, whatever it says.
    """

    reason: Reason
    message: str
    passing: bool = False
    unready: bool = False


def trouble_of(pod: Pod, now: float, window: float, recent: Mapping[str, int]) -> Trouble | None:
    """What ails the pod; None for one that is well.

    `recent` are the restarts of its containers, by name, within `window` seconds; a kill for memory stays told for so
    long.
    """
    if pod.phase == "Failed":
        return Trouble(Reason.POD_FAILED, _why_failed(pod))
    if pod.unscheduled:
        return Trouble(Reason.UNSCHEDULABLE, _sentence("no node takes it", pod.unscheduled))
    looks = (_Look(one, now, window, pod.ready, recent.get(one.name, 0)) for one in pod.containers)
    found = [trouble for look in looks if (trouble := _of_container(look))]
    if found:
        return min(found, key=worth)
    return None if pod.ready else Trouble(Reason.POD_NOT_READY, _why_unready(pod), passing=_starting(pod, now))


def worth(trouble: Trouble) -> int:
    """Place of the trouble's reason in `BY_WORTH`."""
    return BY_WORTH.index(trouble.reason)


@dataclass(frozen=True, slots=True)
class _Look:
    """One container at one time."""

    one: Container
    now: float
    window: float
    pod_ready: bool
    recent: int

    @property
    def ended(self) -> Ended | None:
        """How it has ended, now or the last time."""
        return self.one.ended or self.one.last

    @property
    def age(self) -> float:
        """Seconds since that."""
        return self.now - (self.ended.at if self.ended else 0.0)

    @property
    def keeps_crashing(self) -> bool:
        """Whether it crashes again and again, be it up for a moment."""
        if self.ended is None or self.recent < _KEEPS_CRASHING:
            return False
        return not self.one.ready or (self.one.running > 0 and self.now - self.one.running < STEADY)


_Found = tuple[Reason | None, str]
_NONE: _Found = (None, "")


def _of_container(look: _Look) -> Trouble | None:
    for check in _CHECKS:
        reason, words = check(look)
        if reason is not None:
            role = "init container" if look.one.init else "container"
            return Trouble(reason, f"{role} {look.one.name} {words}", unready=look.keeps_crashing)
    return None


def _out_of_memory(look: _Look) -> _Found:
    one, ended = look.one, look.ended
    if ended is None or ended.reason != _OUT_OF_MEMORY:
        return _NONE
    if one.waiting and _WAITING.get(one.waiting) is not Reason.CRASH_LOOP_BACK_OFF:
        return _NONE  # it has another trouble since
    if one.running and look.age > (look.window if look.pod_ready else max(look.window, BACK_OFF_RESET)):
        return _NONE  # long ago: if it isn't ready, that has another cause
    return Reason.OOM_KILLED, f"was killed for using more memory than its limit{_when(ended)}{_restarts(one)}"


def _never_started(look: _Look) -> _Found:
    if look.one.running or look.ended is None or not look.ended.message:
        return _NONE
    return Reason.CONTAINER_START_FAILED, _sentence(f"can't be started ({look.ended.reason})", look.ended.message)


def _waits(look: _Look) -> _Found:
    one = look.one
    reason = _WAITING.get(one.waiting)
    if reason is None:
        return _NONE
    if reason is Reason.CRASH_LOOP_BACK_OFF:
        return reason, _crashes(one)
    about = f" {one.image}" if reason is Reason.IMAGE_PULL_FAILED and one.image not in one.waiting_message else ""
    told = {
        Reason.IMAGE_PULL_FAILED: f"can't get its image{about}",
        Reason.CONTAINER_CONFIG_ERROR: "lacks what its spec names",
        Reason.CONTAINER_START_FAILED: "can't be started",
    }[reason]
    return reason, _sentence(f"{told} ({one.waiting})", one.waiting_message)


def _crash_loop(look: _Look) -> _Found:
    # between two crashes it runs for a while: that is no recovery
    crashes = look.keeps_crashing and look.age <= BACK_OFF_RESET
    return (Reason.CRASH_LOOP_BACK_OFF, _crashes(look.one)) if crashes else _NONE


def _exited(look: _Look) -> _Found:
    ended = look.one.ended
    if ended is None or not ended.exit_code:
        return _NONE
    return Reason.CONTAINER_EXITED, _has_ended(look.one, ended)


_CHECKS: tuple[Callable[[_Look], _Found], ...] = (_out_of_memory, _never_started, _waits, _crash_loop, _exited)


def _has_ended(one: Container, ended: Ended) -> str:
    return f"has ended with {_how(ended)}{_when(ended)}{_restarts(one)}"


def _why_failed(pod: Pod) -> str:
    if pod.reason or pod.message:
        return _sentence(f"it has failed: {pod.reason}".rstrip(": "), pod.message)
    ends = (f": container {one.name} {_has_ended(one, one.ended)}" for one in pod.containers if one.ended)
    return f"it has failed{next(ends, '')}"


def _crashes(one: Container) -> str:
    ended = one.ended or one.last
    how = "" if ended is None else f": it ended with {_how(ended)}{_when(ended)}"
    return f"keeps crashing{how}{_restarts(one)}; see `kubectl logs --previous`"


def _why_unready(pod: Pod) -> str:
    creating = [one.name for one in pod.containers if one.waiting in ("ContainerCreating", "PodInitializing")]
    if creating:
        names = ", ".join(creating)
        since = _clock(pod.created)
        return f"being created since {since} (container {names}): if it stays so, its events tell of volumes or network"
    if not pod.containers:
        return f"nothing runs yet; created {_clock(pod.created)}"
    unready = [one.name for one in pod.containers if not one.ready and not one.init]
    since = _clock(pod.ready_changed or pod.created)
    if unready:
        return f"not ready since {since}: container {', '.join(unready)} runs, but its readiness probe fails"
    node = f"; is its node {pod.node} there?" if pod.node else ""
    return _sentence(f"not ready since {since}, though all its containers are{node}", pod.unready_because)


def _starting(pod: Pod, now: float) -> bool:
    """Whether it has not been ready yet since its containers run, and may still become so."""
    newest = max((one.running for one in pod.containers), default=0.0)
    was_ready = newest and pod.ready_changed > newest and all(not one.waiting for one in pod.containers)
    return not was_ready and now - max(newest, pod.created, pod.ready_changed) < SETTLING


def _how(ended: Ended) -> str:
    reason = "" if ended.reason in ("", "Error") else f" ({ended.reason})"
    return f"exit code {ended.exit_code}{reason}"


def _when(ended: Ended) -> str:
    return f" at {_clock(ended.at)}" if ended.at else ""


def _restarts(one: Container) -> str:
    return f", {one.restarts} restart{'s' if one.restarts > 1 else ''}" if one.restarts else ""


def _clock(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sentence(told: str, words: str) -> str:
    """`told`, then the cluster's own words, without what URLs may carry of credentials."""
    return f"{told}: {clip(_URL.sub(_bare, words), _MAX_TEXT)}" if words else told


def _bare(url: re.Match[str]) -> str:
    return f"{url[1]}{url[2]}"


def rising(pod: Pod, count: int, window: float) -> Trouble:
    """The trouble of a pod that is ready but was restarted `count` times within `window` seconds."""
    busiest = max(pod.containers, key=lambda one: one.restarts)
    last = "" if busiest.last is None else f"; last with {_how(busiest.last)}{_when(busiest.last)}"
    return Trouble(
        Reason.RESTARTS_RISING,
        f"restarted {count} times within {human(window)}, most of all container {busiest.name}{last}",
    )
