"""Waiting, name look-up and leaks, for the tests of the probes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from backendhealth.probes.dialer import AddrInfo, Resolver


async def eventually(condition: Callable[[], bool], what: str, timeout: float = 5.0) -> None:
    """Let the loop run until `condition` holds; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.01)


def open_sockets() -> int:
    """Sockets that this process has open, those of servers in its threads included."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            count += str(entry.readlink()).startswith("socket:")
    return count


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """After the block there are as many sockets and tasks as before."""
    sockets, tasks = open_sockets(), asyncio.all_tasks()
    yield
    await eventually(lambda: open_sockets() <= sockets, f"no more than {sockets} sockets")
    await eventually(lambda: asyncio.all_tasks() <= tasks, "no task left over")


def resolves_to(*addresses: tuple[str, int]) -> Resolver:
    """A resolver for which every name has these addresses, in this order, whatever port is asked for."""

    def resolve(_host: str, _port: int) -> list[AddrInfo]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address, port in addresses
        ]

    return resolve


def fails_with(code: int) -> Resolver:
    """A resolver that answers with the look-up error `code` (socket.EAI_…)."""

    def resolve(_host: str, _port: int) -> list[AddrInfo]:
        raise socket.gaierror(code, "as the test wants it")

    return resolve
