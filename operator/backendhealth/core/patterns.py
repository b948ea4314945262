"""RE2 expressions: matched in time linear in the text, whatever the expression."""

from __future__ import annotations

from typing import Any, Protocol

import re2

PatternError: type[Exception] = re2.error
"""What `compiled` raises; its first argument is RE2's own text, in bytes."""


class Match(Protocol):
    """Where an expression was found."""

    def group(self) -> bytes:
        """What it has matched."""
        ...


class Pattern(Protocol):
    """A compiled expression."""

    def search(self, text: bytes) -> Match | None:
        """A match anywhere in `text`, or None."""
        ...


MAX_STEPS = 4000
"""Instructions that a signature may compile to: what each character of a text may cost when RE2 runs out of memory."""
_SIGNATURE_MEMORY = 1 << 20
"""Bytes that RE2 may use for one signature; many are held at a time."""


def compiled(expression: str) -> Pattern:
    """`expression` for RE2. Raises PatternError."""
    pattern: Pattern = re2.compile(expression, _options())
    return pattern


def compiled_signature(expression: str) -> Pattern:
    """`expression` for RE2, small enough to be one of many. Raises PatternError, for one that is too large as well."""
    options = _options()
    options.max_mem = _SIGNATURE_MEMORY
    pattern = re2.compile(expression, options)
    if pattern.programsize > MAX_STEPS:
        raise PatternError(f"too large: {pattern.programsize} instructions, at most {MAX_STEPS}".encode())
    small: Pattern = pattern
    return small


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 would write to standard error by itself
    return options
