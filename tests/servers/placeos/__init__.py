"""A PlaceOS double: processes that behave as the platform's services do, on real backends.

What PlaceOS is known to do is done exactly; what was inferred from its code is marked [inf] where it is done.
"""

from __future__ import annotations

from tests.servers.placeos.platform import PlaceOS

__all__ = ["PlaceOS"]
