"""Shares one exchange between all probes of a namespace that ask the same of the same target."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

from backendhealth.core.spec.backendhealth import Probe
from backendhealth.engine.cycle import ProbeKey
from backendhealth.engine.ports import OpenProber, Prober


@dataclass(slots=True)
class Shared:
    """One prober, who uses it, the attempt under way and who waits for its finding."""

    prober: Prober
    users: set[ProbeKey] = field(default_factory=set)
    waiting: list[ProbeKey] = field(default_factory=list)
    under_way: asyncio.Task[None] | None = None


class Exchanges:
    """Probers by target and identity. Secrets belong to a namespace, so nothing is shared across namespaces."""

    def __init__(self, open_prober: OpenProber) -> None:
        self._open = open_prober
        self._shared: dict[Hashable, Shared] = {}
        self._of: dict[ProbeKey, Hashable] = {}

    def acquire(self, user: ProbeKey, namespace: str, probe: Probe, timeout: float) -> None:
        """Give `user` the exchange for the probe's target; it lets go of the one it had."""
        identity = (namespace, timeout, probe.kind, probe.target.model_dump_json(exclude_unset=True))
        if identity not in self._shared:
            self._shared[identity] = Shared(self._open(namespace, probe))
        self._shared[identity].users.add(user)
        self._of[user] = identity

    def get(self, user: ProbeKey) -> Shared:
        """The exchange that `user` has acquired."""
        return self._shared[self._of[user]]

    async def release(self, user: ProbeKey) -> None:
        """Let go of the exchange of `user`; the last one closes it."""
        identity = self._of.pop(user, None)
        if identity is None:
            return
        shared = self._shared[identity]
        shared.users.discard(user)
        if not shared.users:
            del self._shared[identity]
            await _end(shared)

    async def close(self) -> None:
        """Close all."""
        ending = list(self._shared.values())
        self._shared.clear()
        self._of.clear()
        await asyncio.gather(*(_end(shared) for shared in ending))


async def _end(shared: Shared) -> None:
    if shared.under_way is not None and not shared.under_way.done():
        shared.under_way.cancel()
        await asyncio.wait([shared.under_way])
    await shared.prober.close()
