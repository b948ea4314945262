"""The Remediations that there are, as decisions see them; each write of a status, told of when the phase changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable

from backendhealth.core.observation import clip
from backendhealth.core.remediation.situation import Past
from backendhealth.core.remediation.situations import past_of
from backendhealth.core.spec.remediation import FINAL, RemediationSpec, RemediationStatus
from backendhealth.engine.remediation.ports import Announce, Conflict, Serves, Store, Stored, Unavailable

log = logging.getLogger(__name__)

_FIRST_WAIT = 0.2
_LONGEST_WAIT = 10.0


class Book:
    """`wrote` is told the namespace after each write of ours, since no watch tells of it again."""

    def __init__(self, store: Store, serves: Serves, announce: Announce, wrote: Callable[[str], None]) -> None:
        self._store = store
        self._serves = serves
        self._announce = announce
        self._wrote = wrote
        self._past: dict[str, tuple[Hashable, tuple[Past, ...]]] = {}

    def past(self, namespace: str) -> tuple[Past, ...]:
        """All that there are; the same tuple until any of them changes."""
        revision = self._store.revision(namespace)
        known = self._past.get(namespace)
        if known is None or known[0] != revision:
            known = self._past[namespace] = (revision, tuple(map(_past, self._store.remediations(namespace))))
        return known[1]

    def unfinished(self, namespace: str) -> list[Stored]:
        """Those that are not at their end, the oldest first."""
        found = [one for one in self._store.remediations(namespace) if one.status.phase not in FINAL]
        return sorted(found, key=lambda one: (one.created, name_of(one)))

    def find(self, namespace: str, name: str) -> Stored | None:
        """The one of that name."""
        return next((one for one in self._store.remediations(namespace) if name_of(one) == name), None)

    def newest(self, stored: Stored) -> Stored | None:
        """The same as it stands now; None: it is gone."""
        found = self.find(namespace_of(stored), name_of(stored))
        return found if found is not None and found.uid == stored.uid else None

    async def create(self, namespace: str, name: str, spec: RemediationSpec) -> Stored:
        """Claim. Raises Conflict, Unavailable."""
        self._check(namespace)
        stored = await self._store.create(namespace, name, spec)
        self._told(stored)
        return stored

    async def write(self, stored: Stored, status: RemediationStatus) -> Stored:
        """One try; what is the same already is not written. Raises Conflict, Unavailable."""
        if status == stored.status:
            return stored
        self._check(namespace_of(stored))
        return await self._write(stored, status)

    def _check(self, namespace: str) -> None:
        if not self._serves(namespace):
            raise Conflict("the namespace is not ours any more")

    async def _write(self, stored: Stored, status: RemediationStatus) -> Stored:
        written = await self._store.write(stored, status)
        if status.phase != stored.status.phase:
            self._told(written)
        else:
            self._wrote(namespace_of(stored))
        return written

    async def record(self, stored: Stored, status: RemediationStatus) -> Stored | None:
        """Write what has happened, for as long as it takes; None when somebody else has written another phase.

        A person may approve, or a label change, between: then the newest version is written to. Who has lost the
        namespace may write, too: what has happened has happened, and who took it over does not get overwritten.
        """
        wait = _FIRST_WAIT
        while True:
            newest = self.newest(stored)
            if newest is not None and newest.status == status:  # a write that got no answer was done
                self._told(newest)
                return newest
            if newest is None or (newest.status.phase, newest.status.by) != (stored.status.phase, stored.status.by):
                log.warning("%s is not ours any more; what came of it: %s", name_of(stored), status.message)
                return None
            try:
                return await self._write(newest, status)
            except (Conflict, Unavailable) as error:
                log.info("what came of %s is not written yet: %s", name_of(stored), error)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def attempt(self, stored: Stored, status: RemediationStatus) -> Stored | None:
        """One try; None when it is not known to be written: the next look will tell."""
        try:
            return await self.write(stored, status)
        except (Conflict, Unavailable) as error:
            log.info("%s is not written: %s", name_of(stored), error)
            return None

    def _told(self, stored: Stored) -> None:
        self._announce(stored)
        self._wrote(namespace_of(stored))


def name_of(stored: Stored) -> str:
    """Its name."""
    return stored.remediation.metadata.name


def namespace_of(stored: Stored) -> str:
    """Its namespace."""
    return stored.remediation.metadata.namespace


def told(status: RemediationStatus, message: str, **changes: object) -> RemediationStatus:
    """The status with another message and other fields; what held it back, holds no more unless it is told."""
    return status.model_copy(update={"message": clip(message), "holds": [], **changes})


def _past(one: Stored) -> Past:
    return past_of(name_of(one), one.remediation.spec, one.status, one.created)
