"""Times the steps of one attempt, so that a time-out can say what it hung in."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Self


class Trace:
    """The steps of one attempt and whether anything came back from the target.

    `steps` maps a step's name to its seconds (a step taken twice adds up). `failed_in` is the innermost step that
    an exception, a cancellation included, went through. `contact` is set by whoever sees a sign of life.
    """

    __slots__ = ("contact", "failed_in", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.failed_in = ""
        self.contact = False

    def step(self, name: str) -> _Step:
        """A context manager that times one step: resolve, connect, tls, auth, or what the probe calls its own."""
        return _Step(self, name)


class _Step:
    __slots__ = ("_began", "_name", "_trace")

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace = trace
        self._name = name

    def __enter__(self) -> Self:
        self._trace.failed_in = ""  # whoever goes on has dealt with an earlier failure
        self._began = perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        steps = self._trace.steps
        steps[self._name] = steps.get(self._name, 0.0) + perf_counter() - self._began
        if kind is not None and not self._trace.failed_in:
            self._trace.failed_in = self._name
