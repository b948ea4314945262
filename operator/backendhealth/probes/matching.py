"""The beginning of an answer as it may be shown to people."""

from __future__ import annotations

from collections.abc import Iterable

from backendhealth.core.observation import clip
from backendhealth.probes.secrets import redacted

SHOWN = 120
"""Characters of an answer that a message quotes."""


def excerpt(data: bytes | str, secrets: Iterable[str] = (), limit: int = SHOWN) -> str:
    """The beginning of an answer, quoted, on one line; an answer may echo our `secrets`: they are blotted out."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return f'"{clip(redacted(text, secrets), limit)}"'
