"""RE2 expressions over what a server answered, and the beginning of an answer as it may be shown to people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import re2

from backendhealth.core.observation import clip

SHOWN = 120
"""Characters of an answer that a message quotes."""


class Pattern(Protocol):
    """A compiled expression."""

    def search(self, text: bytes) -> object | None:
        """A match anywhere in `text`, or None. Takes time linear in the length of `text`, whatever the expression."""
        ...


def compiled(expression: str) -> Pattern:
    """`expression` for RE2. Raises re2.error; the models have refused such an expression before."""
    options = re2.Options()
    options.log_errors = False  # RE2 would write to standard error by itself
    pattern: Pattern = re2.compile(expression, options)
    return pattern


def excerpt(data: bytes | str, secrets: Iterable[str] = (), limit: int = SHOWN) -> str:
    """The beginning of an answer, quoted, on one line; an answer may echo our `secrets`: they are blotted out."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return f'"{clip(redacted(text, secrets), limit)}"'


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "•••")
    return text
