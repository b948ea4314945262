"""What actions are handed: the cluster under one identity, the fence before each effect; and what they answer with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from backendhealth.core.remediation.situation import Component
from backendhealth.core.spec.actions import AnyAction, DriverAction
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget

Json = dict[str, Any]


class Refused(Exception):  # noqa: N818 - what is said of a server
    """The server said no: there was no effect. `remedy` is the line that would grant it, empty where there is none."""

    def __init__(self, status: int, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.remedy = remedy


class Silent(Exception):  # noqa: N818 - what is said of a server
    """No answer: unknown whether there was an effect."""


class Stop(Exception):  # noqa: N818 - no error of the program
    """The fence is closed: no effect may happen any more. The message says which guard holds."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a command in a container came to; without an exit code it is unknown what it did."""

    exit_code: int | None
    output: str
    """Standard output and error, cut."""


class Cluster(Protocol):
    """The API server, as the policy's ServiceAccount. Every request is noted with its answer for the record."""

    @property
    def acting_as(self) -> str:
        """The user that requests are made as."""
        ...

    async def request(  # noqa: PLR0913 - an HTTP request has that many parts
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> Json:
        """The answer's object. Raises Refused, Silent."""
        ...

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, timeout: float
    ) -> Executed:
        """Run a command in a container; output beyond 64 KiB is dropped. Raises Refused (it did not start), Silent."""
        ...

    async def logs(self, namespace: str, pod: str, container: str, *, since: float, timeout: float) -> str:
        """What the container has logged in the last `since` seconds, 256 KiB at most. Raises Refused, Silent."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP server's answer; `json` is None where the body is none."""

    status: int
    text: str
    json: Any


class Http(Protocol):
    """One HTTP service, with the credentials that the action names; noted as the cluster's requests are."""

    async def ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> Reply:
        """One request. Raises Refused (nothing was sent: address or Secret not allowed …), Silent."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


OpenHttp = Callable[[DriverAction], Http]


class Effect(Enum):
    """What is known of an effect."""

    DONE = "done"
    NOT_DONE = "not done"
    """Provably: refused before anything happened, or nothing was to be done."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action came to: `message` for people, `facts` by which `verified` later tells that it worked."""

    effect: Effect
    message: str
    facts: Mapping[str, str] = field(default_factory=dict)
    needless: bool = False
    """With NOT_DONE: what was wanted is so already."""


@dataclass(slots=True)
class Acting:
    """What an action is done with.

    `fence` is awaited immediately before each effect, with what is about to be done in one line, and raises Stop when
    any guard holds: in a dry run always. Between it and the request there is no other await. An action has one effect.
    """

    namespace: str
    cluster: Cluster
    http: OpenHttp
    clock: Callable[[], float]
    fence: Callable[[str], Awaitable[None]]
    helper_image: str = ""
    """Image of the ephemeral container that sends signals where the target's own has no shell; empty: not allowed."""
    field_manager: str = "backendhealth"


class Performer(Protocol):
    """One kind of action. Any method may raise Refused or Silent, none anything else but Stop and cancellation."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:
        """What would be acted on now, in order; makes no effect. With none there is nothing to do."""
        ...

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """Do it, once, on the spec's target, if that is still the same (UID, restart count)."""
        ...

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether it shows that it worked: None while it does not show, empty when it does, else why it never will.

        Asked again and again, every second or so, until the action's own time is over (see its model).
        """
        ...
