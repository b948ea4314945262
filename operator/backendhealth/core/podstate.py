"""From the pods that a selector finds to one finding: pure, the time and the history of restarts are handed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from backendhealth.core.durations import seconds
from backendhealth.core.observation import MAX_SUBJECTS, Fact, Finding, SubjectFinding, clip
from backendhealth.core.pods import Pod
from backendhealth.core.podtroubles import SETTLING, STEADY, Trouble, rising, trouble_of, worth
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.pods import PodsProbe

Restarts = Mapping[tuple[str, str], tuple[tuple[float, int], ...]]
"""By pod UID and container: when (seconds since the epoch) which count of restarts was first seen, oldest first.

The first entry is what stood before the window: all above it was counted within."""


def remembered(history: Restarts, pods: Iterable[Pod], now: float, window: float) -> Restarts:
    """The history with the pods' present counts; what is gone, or older than the window, is dropped."""
    kept = {}
    for pod in pods:
        # of a pod that is younger than the window every restart has happened within
        before = 0 if now - pod.created <= window else None
        for one in pod.containers:
            key = (pod.uid, one.name)
            seen = history.get(key) or ((pod.created, 0) if before == 0 else (now, one.restarts),)
            old = list(takewhile(lambda entry: entry[0] <= now - window, seen))
            seen = (*old[-1:], *seen[len(old) :])
            kept[key] = seen if seen[-1][1] == one.restarts else (*seen, (now, one.restarts))
    return kept


def restarted(history: Restarts, pod: Pod) -> dict[str, int]:
    """Restarts of the pod's containers, by name, within the window of `history`."""
    seen = ((one.name, history.get((pod.uid, one.name))) for one in pod.containers)
    return {name: entries[-1][1] - entries[0][1] for name, entries in seen if entries}


def judged(target: PodsProbe, pods: Sequence[Pod], history: Restarts, now: float) -> Finding:
    """What the pods show; `history` is `remembered` with them."""
    live = sorted((pod for pod in pods if pod.live), key=lambda pod: pod.name)
    troubles = _troubles(target, live, history, now)
    ready = sum(pod.ready and not (pod.name in troubles and troubles[pod.name].unready) for pod in live)
    facts: dict[str, Fact] = {"ready": ready, "total": len(live), "restarts": sum(pod.restarts for pod in live)}
    if ready >= target.minimum_ready:
        lasting = {name: trouble for name, trouble in troubles.items() if not trouble.passing}
        return _enough(live, ready, lasting, facts)
    if len(live) < target.minimum_ready:  # else the successors of those that have failed are there already
        troubles |= _troubles(target, [pod for pod in pods if pod.phase == "Failed" and not pod.deleting], history, now)
    if not live and not troubles:
        return Finding(Reason.NO_PODS, _nothing(target, pods), facts=facts)
    return _too_few(target, live, ready, troubles, facts)


def next_look(pods: Iterable[Pod], history: Restarts, now: float, window: float) -> float | None:
    """Seconds until time alone may change what is judged of the pods; None when it can't."""
    running = [(pod, one) for pod in pods for one in pod.containers if one.running]
    moments = [one.running + STEADY for _, one in running if one.restarts]
    moments += [max(one.running, pod.ready_changed) + SETTLING for pod, one in running if not pod.ready]
    moments += [at + window for entries in history.values() for at, _ in entries[1:]]
    return min((moment - now for moment in moments if moment > now), default=None)


def _troubles(target: PodsProbe, pods: Iterable[Pod], history: Restarts, now: float) -> dict[str, Trouble]:
    window = seconds(target.restart_window)
    found = {}
    for pod in pods:
        recent = restarted(history, pod)
        trouble = trouble_of(pod, now, window, recent)
        if trouble is None and sum(recent.values()) > target.maximum_restarts:
            trouble = rising(pod, sum(recent.values()), window)
        if trouble is not None:
            found[pod.name] = trouble
    return found


def _nothing(target: PodsProbe, pods: Sequence[Pod]) -> str:
    if not pods:
        return f"no pod matches {target.selector.text}: is it scaled to zero, or the selector wrong?"
    ending = sum(pod.deleting for pod in pods)
    told = f"{ending} being deleted, {len(pods) - ending} ended"
    return f"of the pods that match {target.selector.text} none is to run: {told}"


def _enough(live: Sequence[Pod], ready: int, troubles: Mapping[str, Trouble], facts: Mapping[str, Fact]) -> Finding:
    counted = f"{ready} of {len(live)} pods are ready"
    subjects = _subjects(live, troubles)
    if not troubles:
        return Finding(Reason.PROBE_SUCCEEDED, counted, subjects, facts)
    only_rising = all(trouble.reason is Reason.RESTARTS_RISING for trouble in troubles.values())
    reason = Reason.RESTARTS_RISING if only_rising else Reason.PODS_DEGRADED
    return Finding(reason, clip(f"{counted}, but {_worst_told(troubles)}"), subjects, facts)


def _too_few(
    target: PodsProbe, live: Sequence[Pod], ready: int, troubles: Mapping[str, Trouble], facts: Mapping[str, Fact]
) -> Finding:
    counted = f"{ready} of {len(live)} pods are ready, {target.minimum_ready} needed"
    telling = [t for t in troubles.values() if t.reason not in (Reason.POD_NOT_READY, Reason.RESTARTS_RISING)]
    reason = min(telling, key=worth).reason if telling else Reason.NOT_ENOUGH_READY
    told = f"{counted}; {_worst_told(troubles)}" if troubles else counted
    return Finding(reason, clip(told), _subjects(live, troubles), facts)


def _worst_told(troubles: Mapping[str, Trouble]) -> str:
    name = min(troubles, key=lambda name: (worth(troubles[name]), name))
    others = len(troubles) - 1
    more = f"; {others} more {'pod is' if others == 1 else 'pods are'} in trouble" if others else ""
    return f"pod {name}: {troubles[name].message}{more}"


def _subjects(live: Sequence[Pod], troubles: Mapping[str, Trouble]) -> tuple[SubjectFinding, ...]:
    """One a pod, those in trouble first when there are more than fit, then by name."""
    names = sorted({*(pod.name for pod in live), *troubles}, key=lambda name: (name not in troubles, name))
    restarts = {pod.name: pod.restarts for pod in live}
    return tuple(
        SubjectFinding(
            f"pod/{name}",
            troubles[name].reason if name in troubles else Reason.PROBE_SUCCEEDED,
            clip(troubles[name].message) if name in troubles else "no trouble",
            {"restarts": restarts[name]} if name in restarts else {},
        )
        for name in sorted(names[:MAX_SUBJECTS])
    )
