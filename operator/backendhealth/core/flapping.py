"""Flap detection: a component that changes between failing and working too often is held until it calms down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flaps:
    """Times (seconds since the epoch) of the changes within the window, oldest first, and whether it is held."""

    changes: tuple[float, ...] = ()
    held: bool = False


def flap(flaps: Flaps, now: float, *, changed: bool, limit: int, window: float) -> Flaps:
    """The flaps at `now`. Held beyond `limit` changes within `window` seconds, let go at half as many."""
    if not changed and not flaps.changes:
        return flaps
    changes = tuple(at for at in flaps.changes if now - at < window)
    if changed:
        # what is beyond the limit makes no difference: bounded however long it flaps
        changes = (*changes, now)[-(limit + 1) :]
    held = len(changes) > limit or (flaps.held and len(changes) > limit // 2)
    return Flaps(changes, held)
