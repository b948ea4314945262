"""Probes a TCP port: connect, over TLS on request, send and compare the reply."""

from __future__ import annotations

import asyncio

from backendhealth.core.observation import Finding
from backendhealth.core.patterns import Pattern, compiled
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.generic import TcpProbe
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.dialer import Connection
from backendhealth.probes.endpoint import about_endpoint, host_port, margin
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.matching import excerpt
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import load_tls
from backendhealth.probes.trace import Trace

MAX_REPLY = 64 * 1024
"""Bytes of a reply that are read and matched."""


def build(target: TcpProbe, context: Context) -> TcpExchange:
    """The exchange for `target`."""
    return TcpExchange(target, context)


class TcpExchange:
    """Connects anew for each attempt: being accepted is what is asked for, and a used one is in no known state."""

    def __init__(self, target: TcpProbe, context: Context) -> None:
        self._target = target
        self._context = context
        self._expect = None if target.expect is None else compiled(target.expect)
        self._endpoint = host_port(target.host, target.port)
        self._connection: Connection | None = None

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Connect, send, read until the reply matches."""
        return await about_endpoint(self._attempt(trace, timeout), self._endpoint, trace, timeout)

    async def close(self) -> None:
        """Close the socket at once."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _attempt(self, trace: Trace, timeout: float) -> Finding:
        target = self._target
        deadline = asyncio.get_running_loop().time() + timeout - 2 * margin(timeout)
        tls = None if target.tls is None else await load_tls(self._context.secrets, target.tls)
        connection = self._connection = await self._context.dialer.open(target.host, target.port, trace, tls)
        try:
            message = await self._converse(connection, trace, deadline)
        finally:
            await self.close()
        finding = Finding(Reason.PROBE_SUCCEEDED, message)
        return finding if tls is None else check_expiry(finding, connection.not_after, tls.expiry_warning)

    async def _converse(self, connection: Connection, trace: Trace, deadline: float) -> str:
        if self._target.send is not None:
            with trace.step("send"):
                connection.writer.write(self._target.send.encode())
                await connection.writer.drain()
        if self._expect is None:
            return f"{self._endpoint} accepts connections{' over TLS' if self._target.tls else ''}"
        with trace.step("expect"):
            reply, why = await _read_until(self._expect, connection.reader, deadline)
        if why:
            told = f"{self._endpoint} does not reply as expected: it sent {excerpt(reply)}, {why}"
            raise ProbeError(Reason.UNEXPECTED_REPLY, told)
        return f"{self._endpoint} replies as expected"


async def _read_until(pattern: Pattern, reader: asyncio.StreamReader, deadline: float) -> tuple[bytes, str]:
    """The reply, and why nothing more can make it match; empty when it does.

    Raises TimeoutError when nothing came until `deadline` (by the loop's clock), ConnectionResetError at its end.
    """
    reply = b""
    while len(reply) < MAX_REPLY:
        try:
            async with asyncio.timeout_at(deadline):
                more = await reader.read(MAX_REPLY - len(reply))
        except TimeoutError:
            if not reply:
                raise
            return reply, "and nothing that matches until the time-out"
        if not more:
            if not reply:
                raise ConnectionResetError
            return reply, "then closed the connection"
        reply += more
        if pattern.search(reply):
            return reply, ""
    return reply, f"and {MAX_REPLY} bytes in all without a match"
