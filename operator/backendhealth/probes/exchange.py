"""The exchange with one target under one identity: its protocol, and the one way to make an attempt."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from backendhealth.core.observation import Finding, SubjectFinding, clip
from backendhealth.core.reasons import Reason
from backendhealth.probes.trace import Trace

log = logging.getLogger(__name__)

LIST = "list"
"""The step that asks the API server for pods: when it hangs, nothing is known of the pods."""
_CERT_HAS_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_GONE = (errno.EPIPE, errno.ESHUTDOWN, errno.ENOTCONN, errno.ECONNABORTED)


class ProbeError(Exception):
    """An attempt's failure that the probe itself has recognised; becomes a Finding as it stands."""

    def __init__(self, reason: Reason, message: str, subjects: tuple[SubjectFinding, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.subjects = subjects


class Exchange(Protocol):
    """One target under one identity. Keeps a healthy connection between attempts; used by one attempt at a time."""

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Probe once; the caller ends it after `timeout` seconds.

        Raises ProbeError, OSError, ssl.SSLError or TimeoutError for the target's failures; anything else is our fault.
        """
        ...

    async def close(self) -> None:
        """Close what is kept, at once and without the peer's help; the next attempt starts anew."""
        ...


@runtime_checkable
class Renewable(Protocol):
    """An exchange that keeps something whose age must not end it, such as a WebSocket that stands for users' ones."""

    async def renew(self) -> None:
        """Close the rest, as `close` does."""
        ...


async def run_attempt(exchange: Exchange, timeout: float) -> Finding:
    """One attempt under its deadline. What breaks it also drops the kept connection; only cancellation is raised."""
    trace = Trace()
    finding = None
    try:
        async with asyncio.timeout(timeout):
            finding = await exchange.attempt(trace, timeout)
    except TimeoutError as error:  # with an errno it is the kernel's, which gave up before the deadline
        finding = timed_out(trace, timeout) if error.errno is None else failure(error, trace)
    except (ProbeError, OSError, ssl.SSLError) as error:
        finding = failure(error, trace)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        finding = _own_fault(error, trace)  # a client cancelled itself: left alone, the probe would never run again
    except Exception as error:  # noqa: BLE001 - our own fault: said to be one, never the backend's
        finding = _own_fault(error, trace)
    finally:
        if finding is None or _spoilt(finding):
            await drop(exchange)
    if trace.steps and not finding.steps:
        # each attempt comes this way: by hand in a quarter of the time that dataclasses.replace takes
        return Finding(
            finding.reason,
            finding.message,
            finding.subjects,
            finding.facts,
            trace.steps,
            finding.contact,
            finding.parts,
        )
    return finding


async def renew(exchange: Exchange) -> None:
    """Close what is too old; as for `drop`."""
    await _closed(exchange.renew if isinstance(exchange, Renewable) else exchange.close)


async def drop(exchange: Exchange) -> None:
    """Close what the exchange keeps; a fault in that is logged and ends nothing else."""
    await _closed(exchange.close)


async def _closed(close: Callable[[], Awaitable[None]]) -> None:
    try:
        await close()
    except Exception as error:  # noqa: BLE001 - it says nothing about the backend
        log.error("closing a connection failed by our own fault: %s", _where(error))  # noqa: TRY400 - no text


def _own_fault(error: BaseException, trace: Trace) -> Finding:
    # the exception's text may quote what the target or a Secret holds: only its type is shown
    log.error("the probe failed by its own fault: %s", _where(error))
    told = f"the probe failed by its own fault: {type(error).__name__}"
    return Finding(Reason.INTERNAL_ERROR, told, contact=trace.contact)


def _spoilt(finding: Finding) -> bool:
    # a certificate is seen in a handshake only: to notice the renewed one, connect anew.
    # An exchange of many steps drops what each has broken by itself: what others have kept is what they look at
    return finding.reason in _RECONNECT and not finding.parts


_RECONNECT = {
    Reason.CERTIFICATE_EXPIRING,
    Reason.TIMEOUT,
    Reason.CONNECTION_REFUSED,
    Reason.CONNECTION_RESET,
    Reason.HOST_UNREACHABLE,
    Reason.NETWORK_UNREACHABLE,
    Reason.TLS_FAILURE,
    Reason.CERTIFICATE_EXPIRED,
    Reason.PROTOCOL_ERROR,
    Reason.AUTHENTICATION_FAILED,
    Reason.INTERNAL_ERROR,
}


def _where(error: BaseException) -> str:
    """Type and place of an exception, without its text."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places[-6:]))}"


def timed_out(trace: Trace, timeout: float) -> Finding:
    """The finding for a deadline that passed; a resolver or an API server that does not answer is our own failure."""
    step = trace.failed_in
    after = f"{round(timeout, 3):g} s"  # what is left of a deadline has many digits, others each time
    if step == "resolve":
        return Finding(
            Reason.RESOLVER_UNAVAILABLE,
            f"the resolver did not answer within {after}",
            steps=trace.steps,
            contact=False,
        )
    if step == LIST:
        told = f"the API server did not list the pods within {after}"
        return Finding(Reason.CLUSTER_UNAVAILABLE, told, steps=trace.steps, contact=False)
    if not step and not trace.steps:  # reading Secrets is all that comes before the first step
        told = f"reading its Secrets took longer than {after}: nothing was sent to the backend"
        return Finding(Reason.SECRET_UNAVAILABLE, told, steps=trace.steps, contact=False)
    return Finding(
        Reason.TIMEOUT,
        f"no answer within {after}: it hung {f'in step {step}' if step else f'after step {[*trace.steps][-1]}'}",
        steps=trace.steps,
        contact=trace.contact,
    )


def failure(error: Exception, trace: Trace) -> Finding:
    """The finding for an exception that `classify` knows, or for a ProbeError as it stands."""
    subjects = error.subjects if isinstance(error, ProbeError) else ()
    reason, message = (error.reason, error.message) if isinstance(error, ProbeError) else classify(error)
    return Finding(
        reason, clip(message), subjects, steps=trace.steps, contact=trace.contact or reason in _SIGNS_OF_LIFE
    )


_SIGNS_OF_LIFE = {Reason.CONNECTION_REFUSED, Reason.CONNECTION_RESET, Reason.DNS_NAME_NOT_FOUND}


def classify(error: BaseException) -> tuple[Reason, str]:
    """Reason and message of an exception from the socket or TLS layer."""
    if isinstance(error, ssl.SSLError):
        return _classify_tls(error)
    if isinstance(error, socket.gaierror):
        return _classify_lookup(error)
    if isinstance(error, OSError | EOFError):
        return _classify_socket(error)
    raise TypeError(f"not a failure of the network: {type(error).__name__}") from error


def _classify_socket(error: OSError | EOFError) -> tuple[Reason, str]:
    number = getattr(error, "errno", None)
    if isinstance(error, TimeoutError):  # errno ETIMEDOUT: the kernel gave up
        return Reason.TIMEOUT, "the connection timed out"
    if isinstance(error, ConnectionRefusedError):
        return Reason.CONNECTION_REFUSED, _text(error, "connection refused")
    if isinstance(error, ConnectionError | EOFError) or number in _GONE:
        return Reason.CONNECTION_RESET, _text(error, "the other side broke the connection")
    if number in (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL):
        return Reason.NETWORK_UNREACHABLE, _text(error, "no route from here to that network")
    if number in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
        return Reason.HOST_UNREACHABLE, _text(error, "no route to the host")
    return Reason.INTERNAL_ERROR, f"the probe failed by its own fault: {_text(error, 'operating system error')}"


def _text(error: BaseException, told: str) -> str:
    where = getattr(error, "target", "")
    return f"{told} by {where}" if where and told == "connection refused" else f"{told}: {where}" if where else told


def _classify_lookup(error: socket.gaierror) -> tuple[Reason, str]:
    host = getattr(error, "target", "")
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return Reason.DNS_NAME_NOT_FOUND, f"the name {host} does not exist"
    return Reason.RESOLVER_UNAVAILABLE, f"the name {host} could not be looked up: the resolver does not answer"


def _classify_tls(error: ssl.SSLError) -> tuple[Reason, str]:
    # raised by a library and not by OpenSSL, it has none of these attributes
    if isinstance(error, ssl.SSLCertVerificationError):
        if getattr(error, "verify_code", 0) == _CERT_HAS_EXPIRED:
            return Reason.CERTIFICATE_EXPIRED, "the server's certificate has expired"
        why = getattr(error, "verify_message", "it could not be verified")
        return Reason.TLS_FAILURE, f"the server's certificate is not accepted: {why}"
    reason = getattr(error, "reason", None) or "connection closed in the handshake"
    if reason == "WRONG_VERSION_NUMBER":
        return Reason.TLS_FAILURE, "the port does not speak TLS"
    if "_ALERT_" in reason:
        return Reason.TLS_FAILURE, told_by_alert(reason)
    return Reason.TLS_FAILURE, f"TLS failed: {reason.replace('_', ' ').lower()}"


def told_by_alert(alert: str) -> str:
    """What a server means that ends the handshake with an alert, by its name in OpenSSL: SSLV3_ALERT_…."""
    said = alert.partition("_ALERT_")[2].replace("_", " ").lower()
    if "certificate required" in said:
        return "the server asks for a client certificate: set tls.certSecretRef"
    if "certificate" in said or "unknown ca" in said:
        return f"the server asks for a client certificate that it accepts (it says: {said}): see tls.certSecretRef"
    return f"the server broke the TLS handshake off (it says: {said})"
