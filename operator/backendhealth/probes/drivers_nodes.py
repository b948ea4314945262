"""A core's registration, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A registration. `expires` is whether it would go by itself when its core does not renew it."""

    id: str
    uri: str
    expires: bool
