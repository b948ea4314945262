"""Shares one exchange between all probes of a namespace that ask the same of the same target as the same identity."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.engine.hearing import ProbeKey
from backendhealth.engine.ports import OpenProber, Prober


@dataclass(slots=True)
class Shared:
    """One prober, who uses it, the attempt under way and who waits for its finding."""

    prober: Prober
    timeout: float
    users: set[ProbeKey] = field(default_factory=set)
    waiting: dict[ProbeKey, None] = field(default_factory=dict)
    under_way: asyncio.Task[None] | None = None
    again: bool = False
    """Whether something has changed since the attempt under way began."""


class Exchanges:
    """Probers by target and identity. Secrets belong to a namespace, so nothing is shared across namespaces.

    `signalled` is called when a prober says that something has changed.
    """

    def __init__(self, open_prober: OpenProber, signalled: Callable[[Shared], None]) -> None:
        self._open = open_prober
        self._signalled = signalled
        self._shared: dict[Hashable, Shared] = {}
        self._of: dict[ProbeKey, Hashable] = {}

    def acquire(self, resource: BackendHealth, probe: Probe, timeout: float) -> None:
        """Give the probe, which has none, the exchange for its target."""
        user, target = (resource.key, probe.name), probe.target.model_dump_json(exclude_unset=True)
        # a Secret is allowed to a resource by its name: whoever was not allowed must not share what it opened
        allowed = (resource.spec.service_account_name, resource.metadata.name) if probe.uses_secrets else None
        identity = (resource.metadata.namespace, allowed, timeout, probe.kind, target)
        if identity not in self._shared:
            self._shared[identity] = Shared(
                self._open(resource, probe, functools.partial(self._signal, identity)), timeout
            )
        self._shared[identity].users.add(user)
        self._of[user] = identity

    def get(self, user: ProbeKey) -> Shared:
        """The exchange that `user` has acquired."""
        return self._shared[self._of[user]]

    def release(self, user: ProbeKey) -> Shared | None:
        """Let go of the exchange of `user`, who gets no finding any more; answers with it when nobody uses it now."""
        identity = self._of.pop(user)
        shared = self._shared[identity]
        shared.users.discard(user)
        shared.waiting.pop(user, None)
        return None if shared.users else self._shared.pop(identity)

    def _signal(self, identity: Hashable) -> None:
        shared = self._shared.get(identity)
        if shared is not None:
            self._signalled(shared)

    def release_all(self) -> list[Shared]:
        """Let go of everything; answers with what is to be ended."""
        return [shared for shared in map(self.release, list(self._of)) if shared is not None]


async def end(exchanges: Iterable[Shared]) -> None:
    """End the attempts under way and close what is kept."""
    await asyncio.gather(*map(_end, exchanges))


async def _end(shared: Shared) -> None:
    if shared.under_way is not None and not shared.under_way.done():
        shared.under_way.cancel()
        await asyncio.wait([shared.under_way])
    await shared.prober.close()
