"""Error texts and what they say of components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from backendhealth.core.diagnosis.evidence import Seen
from backendhealth.core.diagnosis.times import fell
from backendhealth.core.diagnosis.world import World
from backendhealth.core.patterns import Pattern, compiled_signature
from backendhealth.core.spec.profile import Signature
from backendhealth.core.verdict import Verdict

_MAX_TEXT = 4096
"""Characters of a text that are looked at."""
_MAX_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Match:
    """A signature in the error text of a component or symptom (`source`) that had failed at `start`.

    A component that works may have logged why something else fails: then `start` is when the newest failure was there.
    """

    signature: Signature
    source: str
    start: float

    @property
    def told(self) -> str:
        """What it means, for people."""
        return f"{self.source} says so: {self.signature.because}"


def matches(world: World) -> tuple[Match, ...]:
    """The signatures that are found in what fails, and in logs, each once for each source, in the profile's order."""
    signatures = world.profile.signatures
    if not signatures:
        return ()
    expressions = tuple(one.pattern for one in signatures)
    found = []
    failing = list(_failing(world))
    newest = max((fell(seen) for _, seen in failing), default=world.now)
    heard = [(source, fell(seen), list(_texts(seen))) for source, seen in failing]
    heard += [(name, newest, list(_logged(seen))) for name, seen in world.seen.items() if name not in world.failing]
    for source, start, texts in heard:
        hits = {hit for text in texts for hit in _found(expressions, text)}
        found += [Match(signatures[hit], source, start) for hit in sorted(hits)]
    return tuple(found)


def _failing(world: World) -> Iterator[tuple[str, Seen]]:
    for name in world.failing:
        yield name, world.seen[name]
    for one in world.symptoms:
        if one.seen.verdict is Verdict.UNHEALTHY:
            yield one.name, one.seen


def _texts(seen: Seen) -> Iterator[str]:
    yield seen.message[:_MAX_TEXT]
    yield from _logged(seen)
    for subject in seen.subjects[:_MAX_TEXTS]:
        if subject.reason.verdict is Verdict.UNHEALTHY:
            yield subject.message[:_MAX_TEXT]


def _logged(seen: Seen) -> Iterator[str]:
    return (text[:_MAX_TEXT] for text in seen.texts[:_MAX_TEXTS])


@lru_cache(maxsize=4096)
def _found(expressions: tuple[str, ...], text: str) -> tuple[int, ...]:
    encoded = text.encode(errors="replace")
    return tuple(index for index, one in enumerate(expressions) if _pattern(one).search(encoded))


@lru_cache(maxsize=256)
def _pattern(expression: str) -> Pattern:
    return compiled_signature(expression)
