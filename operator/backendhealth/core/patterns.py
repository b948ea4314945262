"""RE2 expressions: matched in time linear in the text, whatever the expression."""

from __future__ import annotations

from typing import Protocol

import re2

PatternError: type[Exception] = re2.error
"""What `compiled` raises; its first argument is RE2's own text, in bytes."""


class Pattern(Protocol):
    """A compiled expression."""

    def search(self, text: bytes) -> object | None:
        """A match anywhere in `text`, or None."""
        ...


def compiled(expression: str) -> Pattern:
    """`expression` for RE2. Raises PatternError."""
    options = re2.Options()
    options.log_errors = False  # RE2 would write to standard error by itself
    pattern: Pattern = re2.compile(expression, options)
    return pattern
