"""Which of the components that fail are causes, which are explained by others, and of which that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backendhealth.core.diagnosis.evidence import Outage
from backendhealth.core.diagnosis.graph import reached
from backendhealth.core.diagnosis.standing import Standing, standing, told
from backendhealth.core.diagnosis.telling import DETERMINED
from backendhealth.core.diagnosis.times import Cover, clock, cover, fell
from backendhealth.core.diagnosis.world import World
from backendhealth.core.durations import human
from backendhealth.core.spec.profile import Confounder
from backendhealth.core.verdict import Verdict

_MAX_TOLD = 3


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is made of one thing that fails: explained `by` others, waiting for others, or not known; else a cause."""

    because: str = ""
    by: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    suspects: tuple[tuple[str, str], ...] = ()
    """Name, and why."""
    open: bool = False
    """Whether the cause is not known, and won't be by waiting."""
    until: float | None = None
    """When the grace ends that excuses it, in seconds since the epoch."""

    @property
    def is_cause(self) -> bool:
        """Whether nothing else is to blame."""
        return not (self.by or self.waits or self.open)


@dataclass(frozen=True, slots=True)
class _Link:
    cover: Cover
    confounder: Confounder | None = None


def rulings(world: World) -> dict[str, Ruling]:
    """What is made of each component that fails."""
    links = _links(world)
    made = {name: _unlinked(world, name) for name in world.failing if name not in links}
    causes = {name for name, ruling in made.items() if ruling.is_cause}
    made |= {name: _linked(world, name, links, causes) for name in links}
    return {name: made[name] for name in world.failing}


def waiting(world: World, names: Iterable[str]) -> Ruling:
    """The ruling on what waits for `names`."""
    waits = world.ordered(names)
    return Ruling(f"{DETERMINED}: waiting for {', '.join(waits)}", waits=waits)


def covered(world: World, name: str, others: Iterable[str]) -> Cover:
    """Which of the components `others` explain, by the times, that `name` fails."""
    grace = world.grace(name)
    return cover(world.seen[name], ((one, world.seen[one], grace) for one in others if one in world.seen), world.now)


def recovering(name: str, outage: Outage) -> str:
    """That something works again, for people."""
    return f"{name}, which was down from {clock(outage.onset)} to {clock(outage.ended)}"


def failure(world: World, name: str) -> str:
    """That something fails, for people."""
    seen = world.seen[name]
    if seen.verdict is not Verdict.UNHEALTHY:
        return f"{name} was down"
    return f"{name} fails since {clock(seen.since)} ({seen.reason})"


def tops(links: dict[str, _Link], causes: set[str], link: _Link) -> list[str]:
    """The causes at the top of what explains something; those that came back where nothing above it fails."""
    free = [one for one in link.cover.failing if one not in links]
    if free:
        return [one for one in free if one in causes] or free
    if link.cover.back:
        return list(link.cover.back)
    return list(dict.fromkeys(top for one in link.cover.failing for top in tops(links, causes, links[one])))


def is_own(world: World, name: str) -> bool:
    """Whether the reason is the component's own fault, whatever it depends on."""
    return name in world.components and world.seen[name].reason in world.components[name].own_reasons


def _links(world: World) -> dict[str, _Link]:
    links: dict[str, _Link] = {}
    for name in world.failing:
        if not is_own(world, name):
            found = covered(world, name, world.dependencies(name))
            if found.holds:
                links[name] = _Link(found)
    for name in world.failing:
        for confounder in _confounders(world, name):
            suspects = [one for one in confounder.suspects if not _explains(links, name, one)]
            found = covered(world, name, suspects)
            if found.holds:
                links[name] = _Link(found, confounder)
                break
    return links


def _confounders(world: World, name: str) -> list[Confounder]:
    seen, own = world.seen[name], is_own(world, name)
    return [
        one
        for one in world.profile.confounders
        if one.component == name
        and (seen.reason in one.reasons if one.reasons else not own)
        and (not one.all_subjects or (seen.subjects and all(_fails(sub.reason.verdict) for sub in seen.subjects)))
    ]


def _fails(verdict: Verdict) -> bool:
    return verdict is Verdict.UNHEALTHY


def _explains(links: dict[str, _Link], name: str, other: str) -> bool:
    """Whether `name` is why `other` fails, or the same."""
    return name in reached([other], lambda one: links[one].cover.failing if one in links else ())


def _linked(world: World, name: str, links: dict[str, _Link], causes: set[str]) -> Ruling:
    link = links[name]
    by = world.ordered(tops(links, causes, link))
    back = link.cover.back or {}
    excused = bool(back) and not any(one in world.failing for one in by)
    if excused:
        known = world.components[name].recovery_grace if name in world.components else human(world.grace(name))
        parts = [recovering(one, back[one]) for one in by if one in back][:_MAX_TOLD]
        because = f"it fell with {' and '.join(parts)}; it has {known} to recover"
    elif link.confounder:
        because = f"{link.confounder.because} ({_failures(world, by)})"
    else:
        because = f"needs {'; '.join(_way(world, name, one) for one in by[:_MAX_TOLD])}: {_failures(world, by)}"
    return Ruling(because, by=by, until=link.cover.until if excused else None)


def _failures(world: World, names: tuple[str, ...]) -> str:
    more = len(names) - _MAX_TOLD
    listed = "; ".join(failure(world, one) for one in names[:_MAX_TOLD])
    return f"{listed}; and {more} more" if more > 0 else listed


def _way(world: World, name: str, target: str) -> str:
    return ", which needs ".join(world.graph.path(name, target)[1:]) or target


def _unlinked(world: World, name: str) -> Ruling:
    start = fell(world.seen[name])
    below = [] if is_own(world, name) else world.dependencies(name)
    stands = {one: standing(world, one, start) for one in below}
    confounders = _confounders(world, name)
    suspected = {one: standing(world, one, start) for each in confounders for one in each.suspects if one != name}
    waits = [one for one, where in {**stands, **suspected}.items() if where is Standing.AWAITED]
    if waits:
        return waiting(world, waits)
    for confounder in confounders:
        open_ = [one for one in confounder.suspects if suspected.get(one) in (Standing.UNTOLD, Standing.UNWATCHED)]
        if open_:
            why = tuple((one, f"{confounder.because} ({told(world, one, suspected[one])})") for one in open_)
            return Ruling(f"{confounder.because}: {_listed(open_)} can't be told", suspects=why, open=True)
    untold = [one for one, where in stands.items() if where is Standing.UNTOLD]
    if untold:
        itself = (name, f"{failure(world, name)}: {world.seen[name].message}")
        why = tuple((one, f"{name} needs it, and {told(world, one, Standing.UNTOLD)}") for one in untold)
        return Ruling(f"it needs {_listed(untold)}, of which we can't tell", suspects=(*why, itself), open=True)
    return Ruling()


def _listed(names: list[str]) -> str:
    return ", ".join(names)
