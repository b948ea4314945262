"""What PostgreSQL's and asyncpg's errors mean, as reasons."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.postgres_wire import MALFORMED, NONSENSE, FrameGuard, not_postgres
from backendhealth.probes.secrets import redacted

_BY_STATE: dict[str, tuple[Reason, str]] = {
    "28P01": (Reason.AUTHENTICATION_FAILED, "the server refuses the user or the password"),
    "28000": (Reason.AUTHENTICATION_FAILED, "the server does not let this user in"),
    "3D000": (Reason.DATABASE_MISSING, "the server works, but"),
    "42501": (Reason.PERMISSION_DENIED, "the user may not do what the probe asks"),
    "53300": (Reason.TOO_MANY_CLIENTS, "the server turns new clients away"),
    "57P03": (Reason.LOADING, "the server runs, but refuses clients for now"),
}
_NO_RESOURCES = "53"
"""Class of the states for no memory, disk full and the like."""


class StatementLostError(Exception):
    """The server does not know a statement that this connection has prepared: a pooler changes servers behind it.

    Not the server's fault: without prepared statements, which cost twice as much, all goes well.
    """


_LOST = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidCachedStatementError,
)


@contextmanager
def plain_errors(guard: FrameGuard, secrets: tuple[str, ...], *, has_certificate: bool) -> Iterator[None]:
    """Turn asyncpg's exceptions into ProbeError, StatementLostError, or the error that the connection ended with.

    A server's text may echo what we sent: `secrets` are blotted out.
    """
    try:
        yield
    except _LOST:
        raise StatementLostError from None
    except asyncpg.PostgresConnectionError:
        raise _broken(guard) from None
    except asyncpg.PostgresError as error:
        raise _by_state(error, secrets, has_certificate=has_certificate) from None
    except MALFORMED:
        if guard.lost is not None or guard.fault:
            raise _broken(guard) from None
        raise not_postgres(NONSENSE) from None


def _broken(guard: FrameGuard) -> Exception:
    if guard.too_much and guard.settled:
        return ProbeError(Reason.QUERY_FAILED, f"the answer to the query is too large: {guard.fault}")
    if guard.fault:
        return not_postgres(guard.fault)
    lost = guard.lost
    return lost if isinstance(lost, OSError | ssl.SSLError) else ConnectionResetError()


def _by_state(error: asyncpg.PostgresError, secrets: tuple[str, ...], *, has_certificate: bool) -> ProbeError:
    state = error.sqlstate or ""
    text = redacted(str(error), secrets)
    if state == "28000" and "client certificate" in text and not has_certificate:
        return ProbeError(Reason.TLS_FAILURE, "the server asks for a client certificate: set tls.certSecretRef")
    if state in _BY_STATE:
        reason, told = _BY_STATE[state]
    elif state.startswith(_NO_RESOURCES):
        reason, told = Reason.OVERLOADED, "the server lacks the resources to answer"
    else:
        reason, told = Reason.QUERY_FAILED, f"the server answers with the error {state or 'without a code'}"
    return ProbeError(reason, f"{told}: {text}")
