"""Holds the Leases of shards: at most one replica works on a shard, and soon another when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from backendhealth.core.grants import remedy
from backendhealth.core.leasing import (
    Record,
    Replica,
    Sight,
    Timing,
    claimed,
    record_of,
    released,
    seen,
    shard_of,
    take_in,
    with_record,
)
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.hold import Clock, Hold, boottime

log = logging.getLogger(__name__)

_UNAVAILABLE = "unavailable"


class Leases:
    """Takes part in the election for each of `shards`; the Lease of shard 0 is `<name>-shard-0` in `namespace`.

    `acquired` and `lost` are told a shard, in turns and at once, in the event loop; when `lost` returns, nothing more
    may be done for that shard that others see. `taken` is told, at each look, that another holds it. `clock` is
    monotonic; `wall`, seconds since the epoch, is only for people to read.
    """

    def __init__(  # noqa: PLR0913 - the ports, and what names the Leases
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        shards: int,
        identity: str,
        acquired: Callable[[int], None],
        lost: Callable[[int], None],
        taken: Callable[[int], None] = lambda _: None,
        clock: Clock = boottime,
        wall: Clock = time.time,
        timing: Timing | None = None,
    ) -> None:
        # Two processes may have been given one name (a container that was restarted, a setting that was copied).
        self.identity = f"{identity}_{secrets.token_hex(4)}"
        self._troubles = _Troubles()
        party = _Party(
            api=api,
            namespace=namespace,
            name=name,
            shards=shards,
            identity=self.identity,
            acquired=acquired,
            lost=lost,
            taken=taken,
            clock=clock,
            wall=wall,
            timing=timing or Timing(),
            troubles=self._troubles,
            leases=[],
            taking=asyncio.Lock(),
        )
        party.leases.extend(_Lease(party, shard) for shard in range(shards))
        self._leases = tuple(party.leases)

    async def run(self) -> None:
        """Until cancelled; then every shard is lost first, and its Lease released."""
        try:
            async with asyncio.TaskGroup() as group:
                for lease in self._leases:
                    group.create_task(lease.run())
        finally:
            await asyncio.gather(*(lease.release() for lease in self._leases))

    def holds(self, shard: int) -> bool:
        """Whether `shard` is ours by the clock, at this very moment."""
        return self._leases[shard].holds()

    def holds_namespace(self, namespace: str) -> bool:
        """Whether the shard of `namespace` is ours at this very moment."""
        return self.holds(shard_of(namespace, len(self._leases)))

    def unreachable(self, shard: int) -> bool:
        """Whether the API server could not be asked about the shard's Lease the last time."""
        return self._troubles.outage(shard)

    @property
    def held(self) -> frozenset[int]:
        """The shards that are ours at this very moment."""
        return frozenset(lease.shard for lease in self._leases if lease.holds())


@dataclass(frozen=True, slots=True)
class _Party:
    """What all shards of a replica share."""

    api: Api
    namespace: str
    name: str
    shards: int
    identity: str
    acquired: Callable[[int], None]
    lost: Callable[[int], None]
    taken: Callable[[int], None]
    clock: Clock
    wall: Clock
    timing: Timing
    troubles: _Troubles
    leases: list[_Lease]
    taking: asyncio.Lock
    """One shard after the other is taken, so that each knows how many we have."""

    def elsewhere(self, shard: int) -> float:
        """The part of all shards that we hold, `shard` left out."""
        return sum(lease.holds() for lease in self.leases if lease.shard != shard) / self.shards


class _Lease:
    """One shard's Lease: reads it while it is another's, renews it while it is ours."""

    def __init__(self, party: _Party, shard: int) -> None:
        self.shard = shard
        self._party = party
        self._name = f"{party.name}-shard-{shard}"
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{party.namespace}/leases"
        what = f"Lease {party.namespace}/{self._name}"
        self.holds = Hold(what, party.clock, lambda: party.acquired(shard), lambda: party.lost(shard))
        self._object: Json | None = None  # as it was read or written last
        self._sight: Sight | None = None
        self._current = False  # `_object` is our own last write: no need to read before the next
        self._maybe_ours = False  # our name may be in it: a write may have succeeded unanswered

    async def run(self) -> None:
        """Until cancelled; then it is lost, but not released."""
        wait = 0.0
        try:
            while True:
                await asyncio.sleep(wait)
                wait = await self._turn()
        finally:
            self.holds.end("stopping")

    async def release(self) -> None:
        """Take our name out of it, so that nobody waits; tries for as long as one request may take."""
        party = self._party
        try:
            async with asyncio.timeout(party.timing.request_timeout):
                if self._maybe_ours and not self._current:
                    await self._read()
                while self._maybe_ours and self._object is not None:
                    if await self._write(released(record_of(self._object), party.wall())):
                        return
                    await self._read()
        except (ApiError, ApiUnavailable, TimeoutError) as error:
            log.warning(
                "Lease %s/%s: not released, others wait for %g s: %s",
                party.namespace,
                self._name,
                party.timing.duration,
                error or "the deadline passed",
            )

    async def _turn(self) -> float:
        """Look, and take or renew it if that is due; seconds until the next turn."""
        party = self._party
        self.holds.check()
        start = party.clock()
        try:
            wait = await self._advance()
        except ApiUnavailable as error:
            party.troubles.begin(self.shard, _UNAVAILABLE, str(error))
        except ApiError as error:
            self._current = False
            party.troubles.begin(self.shard, f"{error.status} {error.reason}", self._told(error))
        else:
            party.troubles.end(self.shard)
            return max(0.0, start + wait - party.clock())
        return self._retry()

    async def _advance(self) -> float:
        """As `_turn`, counted from its start. Raises ApiError and ApiUnavailable."""
        party = self._party
        if not self._current or self._sight is None:
            self._sight = await self._read()
        async with contextlib.nullcontext() if self.holds() else party.taking:
            now = party.clock()
            us = Replica(party.identity, self.holds(), party.elsewhere(self.shard))
            wait = take_in(self._sight, us, now, party.timing)
            if wait > 0:
                return min(wait, self._retry())
            if not await self._write(claimed(self._sight.record, party.identity, party.wall(), party.timing)):
                return 0.0
            self.holds.extend(now + party.timing.renew_deadline)
        return party.timing.renew_interval

    async def _read(self) -> Sight:
        try:
            lease = await self._request("GET", f"{self._collection}/{self._name}", None)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            lease = None
        sight = self._know(lease)
        holder = sight.record.holder if sight.record else ""
        self._maybe_ours = holder == self._party.identity
        if lease is not None and not self._maybe_ours:
            self.holds.end(f"its holder is now {holder!r}")
            if holder:
                self._party.taken(self.shard)
        return sight

    async def _write(self, record: Record) -> bool:
        """False when somebody wrote it since we read it: read it again. Raises ApiError and ApiUnavailable."""
        self._maybe_ours = True
        try:
            if self._object is None:
                new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
                answer = await self._request("POST", self._collection, with_record(new, record))
            else:
                lease = with_record(self._object, record)
                answer = await self._request("PUT", f"{self._collection}/{self._name}", lease)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            self._current = False
            return False
        self._know(answer)
        self._current = True
        return True

    def _know(self, lease: Json | None) -> Sight:
        self._object = lease
        self._sight = seen(self._sight, None if lease is None else record_of(lease), self._party.clock())
        return self._sight

    async def _request(self, method: str, path: str, body: Json | None) -> Json:
        answer = await self._party.api.request(method, path, body=body, timeout=self._party.timing.request_timeout)
        if not (answer.get("metadata") or {}).get("resourceVersion"):
            raise ApiUnavailable(f"what answers at {self._party.api.host} is no API server: it sent no Lease")
        return answer

    def _retry(self) -> float:
        """Spread, so that replicas don't ask in step."""
        return self._party.timing.retry_interval * random.uniform(0.7, 1.0)  # noqa: S311 - nothing secret

    def _told(self, error: ApiError) -> str:
        return f"{error}{remedy(self._party.namespace, error.message, 'get,create,update')}"


class _Troubles:
    """Says each kind of trouble once when it begins for any shard, not for every shard and try."""

    def __init__(self) -> None:
        self._shards: dict[str, set[int]] = {}

    def begin(self, shard: int, kind: str, message: str) -> None:
        """`shard` has this trouble now, and no other."""
        if not self._shards.get(kind):
            log.warning("no election: %s", message)
        self._forget(shard)
        self._shards.setdefault(kind, set()).add(shard)

    def end(self, shard: int) -> None:
        """`shard` has none."""
        if self._forget(shard) and not any(self._shards.values()):
            log.info("the election goes on")

    def outage(self, shard: int) -> bool:
        """Whether the API server gave no answer, or none of its own."""
        kinds = [kind for kind, shards in self._shards.items() if shard in shards]
        return any(kind == _UNAVAILABLE or kind[0] == "5" for kind in kinds)

    def _forget(self, shard: int) -> bool:
        had = [shards for shards in self._shards.values() if shard in shards]
        for shards in had:
            shards.discard(shard)
        return bool(had)
