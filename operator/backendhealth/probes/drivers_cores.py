"""Which cores should be registered, and which are, as data; and what the difference means: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from yarl import URL

from backendhealth.core.observation import Finding, SubjectFinding, clip
from backendhealth.core.placeoscluster import Core, name_of
from backendhealth.core.reasons import Reason
from backendhealth.probes.drivers_nodes import Node
from backendhealth.probes.placeos_steps import skipped


@dataclass(frozen=True, slots=True)
class Seen:
    """What one attempt has seen of cores; None for what could not be asked or was not asked for.

    `listed` are those that the API shows, `nodes` the registrations, `pods` the addresses of ready pods by
    name, `answering` the URLs of those that answer by themselves, `expected` how many there should be. `unseen` is why
    `nodes`, or without them `listed`, are not known.
    """

    listed: Sequence[Core] | None = None
    nodes: Sequence[Node] | None = None
    pods: Mapping[str, str] | None = None
    answering: Sequence[str] = ()
    expected: int | None = None
    unseen: str = ""


def judged(seen: Seen) -> Finding:
    """What is found of the cores' registration."""
    live, stale = _live(seen), _stale(seen)
    if live is None:
        return skipped(f"which cores are registered is not known: {seen.unseen}")
    absent = _absent(seen, live)
    subjects = _subjects(live, stale, absent)
    registered = f"{len(live)} {'core is' if len(live) == 1 else 'cores are'} registered"
    old = f"; {_told_stale(stale)}" if stale else ""
    if absent:
        told = f"{', '.join(absent[:8])} {'runs' if len(absent) == 1 else 'run'}, but not in discovery: {registered}"
        return Finding(Reason.CORE_NOT_REGISTERED, clip(told + old), subjects)
    if stale:
        return Finding(Reason.STALE_PLACEMENT, clip(f"{_told_stale(stale)}; {registered}"), subjects)
    if not live:
        return Finding(Reason.NO_CORE_INSTANCES, "no core is registered, and none is known to run", subjects)
    if seen.expected is not None and len(live) < seen.expected:
        told = f"{registered}, {seen.expected} expected"
        return Finding(Reason.CORE_NOT_REGISTERED, told, subjects)
    unread = f"; by the API alone: {seen.unseen}" if seen.nodes is None and seen.unseen else ""
    return Finding(Reason.PROBE_SUCCEEDED, clip(registered + unread), subjects)


def _live(seen: Seen) -> dict[str, str] | None:
    """URI by id of the cores that are registered and alive, as far as is known."""
    if seen.nodes is None:
        return None if seen.listed is None else {core.id: core.uri for core in seen.listed}
    dead = {node.id for node in _stale(seen)}
    return {node.id: node.uri for node in seen.nodes if node.id not in dead}


def _stale(seen: Seen) -> list[Node]:
    """Registrations that do not go by themselves, and those whose cores do not answer the API."""
    answer = None if seen.listed is None else {core.id for core in seen.listed}
    return [node for node in seen.nodes or () if not node.expires or (answer is not None and node.id not in answer)]


def _told_stale(stale: Sequence[Node]) -> str:
    places = ", ".join(clip(f"{node.id} ({node.uri})", 120) for node in stale[:4])
    return f"discovery has cores that are dead: {places}" if len(stale) > 1 else f"discovery has a dead core: {places}"


def _absent(seen: Seen, live: dict[str, str]) -> list[str]:
    """Names of those that run and are not registered."""
    return sorted({*_unlisted(seen, live), *_unlisted_pods(seen.pods or {}, live)})


def _unlisted(seen: Seen, live: dict[str, str]) -> list[str]:
    """Of the cores that answer by themselves."""
    if len(seen.answering) <= len(live):
        return []  # they may be registered under other addresses
    places = {_place(uri) for uri in live.values()}
    return [name_of(uri) for uri in seen.answering if _place(uri) not in places]


def _unlisted_pods(pods: Mapping[str, str], live: dict[str, str]) -> list[str]:
    """Of the ready pods. They are registered by their names or their addresses."""
    names, hosts = {name_of(uri) for uri in live.values()}, {_place(uri)[0] for uri in live.values()}
    absent = sorted(name for name, at in pods.items() if name not in names and not (at and at in hosts))
    # none is known by its registration, or several share the address of their node: only the number tells
    if len(absent) == len(pods) or len(absent) < len(pods) - len(live):
        return sorted(pods)[len(live) :]
    return absent


def _place(uri: str) -> tuple[str, int]:
    try:
        url = URL(uri)
        place = url.host or "", url.port or 0
    except ValueError:
        return uri, 0
    return place


def _subjects(live: dict[str, str], stale: Iterable[Node], absent: Iterable[str]) -> tuple[SubjectFinding, ...]:
    found = [
        SubjectFinding(f"core/{name_of(uri) or key}", Reason.PROBE_SUCCEEDED, "registered", {"coreId": key})
        for key, uri in live.items()
    ]
    found += [
        SubjectFinding(f"core/{name_of(node.uri) or node.id}", Reason.STALE_PLACEMENT, "dead", {"coreId": node.id})
        for node in stale
    ]
    found += [SubjectFinding(f"core/{name}", Reason.CORE_NOT_REGISTERED, "not registered") for name in absent]
    return tuple(sorted(found, key=lambda one: one.subject)[:64])
