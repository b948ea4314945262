"""The ports of the Remediator: the objects in the cluster, situations, identities, and who is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backendhealth.actions.ports import Acting, Performer
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.spec.remediation import Remediation, RemediationSpec, RemediationStatus
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.spec.status import RemediationView


class Conflict(Exception):  # noqa: N818 - what is said of a write
    """Somebody else was faster: the object was created, changed or deleted by another."""


class Unavailable(Exception):  # noqa: N818 - what is said of a server
    """The API server does not answer or refuses: unknown whether a write was done. Nothing may be begun."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy as it stands in the cluster."""

    policy: RemediationPolicy
    uid: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A Remediation as it stands in the cluster; `created` in seconds since the epoch."""

    remediation: Remediation
    status: RemediationStatus
    uid: str
    version: str
    """Its resourceVersion: a write is refused (Conflict) when it is not the newest any more."""
    created: float
    problem: str = ""
    """Why it can't be carried out, though nothing of it was begun: fields that the API server lets pass are wrong."""


class Store(Protocol):
    """Policies and Remediations. What is read without `await` is what the watch has shown last."""

    def settled(self, namespace: str) -> bool:
        """Whether it is known what there is: before that nothing may be begun, since limits are counted from it."""
        ...

    def policies(self, namespace: str) -> Sequence[StoredPolicy]:
        """All that can be used."""
        ...

    def remediations(self, namespace: str) -> Sequence[Stored]:
        """All that there are; those that this process has created or written are among them at once."""
        ...

    def revision(self, namespace: str) -> Hashable:
        """Another one after each change of what `remediations` answers with."""
        ...

    async def policy_now(self, namespace: str, name: str) -> StoredPolicy | None:
        """As the API server has it at this moment; None: it is gone or can't be used. Raises Unavailable."""
        ...

    async def create(self, namespace: str, name: str, spec: RemediationSpec) -> Stored:
        """The claim. Raises Conflict when the name is taken, Unavailable when it is unknown whether it is now."""
        ...

    async def write(self, stored: Stored, status: RemediationStatus) -> Stored:
        """Its new status. Raises Conflict, Unavailable."""
        ...

    async def delete(self, stored: Stored) -> None:
        """Prune it. Raises Conflict, Unavailable."""
        ...


class Situations(Protocol):
    """What is believed of the BackendHealths that are served."""

    def situation(self, key: str) -> Situation | None:
        """Of `namespace/name`, now; None when it is not served."""
        ...

    def counted(self) -> tuple[int, int]:
        """How many are unhealthy, of how many."""
        ...

    def unhealthy_before(self) -> Collection[float]:
        """When each that was unhealthy before it was served by this process last may have been, as it was found."""
        ...


OpenActing = Callable[[str, str, str, list[str], Callable[[str], Awaitable[None]]], Acting]
"""(namespace, policy's name, ServiceAccount, where calls are noted, the fence) → what an action is done with."""
Performers = Mapping[str, Performer]
"""By Action.kind."""
Switch = Callable[[], Awaitable[str]]
"""Why all remediation is switched off, asked anew; empty when it is on. What can't be asked is off."""
Serves = Callable[[str], bool]
"""Whether the namespace is ours at this very moment."""
Tell = Callable[[str, RemediationView | None], None]
"""Takes what is to be told of a BackendHealth; None: no policy names it."""
Announce = Callable[[Stored], None]
"""A Remediation has come to another phase: Events, log, metrics."""
