"""What a failed RPC says about etcd or about whatever answers in its place.

A server's own text is never quoted: it could hold what the probe has sent, a password or a token. Only texts that are
known word for word are recognised, and told in our words.
"""

from __future__ import annotations

import grpc

from backendhealth.core.reasons import Reason

_FROM_ETCD = "etcdserver: "
_NO_USER = "user name is empty"
_WRONG_PASSWORD = "authentication failed, invalid user ID or password"  # noqa: S105
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "revision in header is old")
_NO_AUTH = "authentication is not enabled"
_LEADER_CHANGED = "leader changed"

_KNOWN: tuple[tuple[str, Reason, str], ...] = (
    (_LEADER_CHANGED, Reason.QUORUM_LOST, "the leader changes again and again"),
    ("request timed out", Reason.QUORUM_LOST, "the member got no answer from the others in time"),
    ("corrupt cluster", Reason.ALARM_CORRUPT, "etcd says that its data is corrupt"),
    ("too many requests", Reason.OVERLOADED, "the member refuses requests: it lags behind in applying them"),
    ("server stopped", Reason.CONNECTION_RESET, "the member is shutting down"),
    (_NO_USER, Reason.AUTHENTICATION_FAILED, "etcd asks for a user and the probe has none: set auth.secretRef"),
    (_WRONG_PASSWORD, Reason.AUTHENTICATION_FAILED, "etcd does not accept the user and password of auth.secretRef"),
    *((text, Reason.AUTHENTICATION_FAILED, "etcd does not accept its own fresh token") for text in _STALE_TOKEN),
    ("permission denied", Reason.PERMISSION_DENIED, "the probe's user may not do this"),
)


def reason_of(error: grpc.aio.AioRpcError) -> tuple[Reason, str]:
    """Reason and message of a failed RPC."""
    told = _told(error)
    if told is None:
        return _of_transport(error)
    for text, reason, message in _KNOWN:
        if told.startswith(text):
            return reason, message
    return Reason.PROTOCOL_ERROR, f"etcd answered with the gRPC status {error.code().name}"


def lost_connection(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection failed, as opposed to etcd answering with an error."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and _told(error) is None


def wants_sign_in(error: grpc.aio.AioRpcError) -> bool:
    """Whether signing in (again) is the answer: no token was sent, or it has expired."""
    return (_told(error) or "").startswith((_NO_USER, *_STALE_TOKEN))


def auth_is_off(error: grpc.aio.AioRpcError) -> bool:
    """Whether etcd says that it asks nobody for a password."""
    return (_told(error) or "").startswith(_NO_AUTH)


def denied(error: grpc.aio.AioRpcError) -> bool:
    """Whether etcd itself denied it to a known user. Of a read, that comes after the quorum has confirmed it."""
    return error.code() is grpc.StatusCode.PERMISSION_DENIED and _told(error) is not None


def leader_changed(error: grpc.aio.AioRpcError) -> bool:
    """Whether etcd dropped the request because a new leader has just been elected."""
    return (_told(error) or "").startswith(_LEADER_CHANGED)


def _told(error: grpc.aio.AioRpcError) -> str | None:
    """The text that etcd itself gave, or None when it was not etcd that failed the call."""
    details = error.details() or ""
    return details.removeprefix(_FROM_ETCD) if details.startswith(_FROM_ETCD) else None


def _of_transport(error: grpc.aio.AioRpcError) -> tuple[Reason, str]:
    if "larger than max" in (error.details() or ""):
        return Reason.PROTOCOL_ERROR, "the answer is far too large for etcd's"
    if lost_connection(error):
        return Reason.CONNECTION_RESET, "the other side broke the connection"
    return Reason.PROTOCOL_ERROR, f"what answers there is not etcd: gRPC status {error.code().name}"
