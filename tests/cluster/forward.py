"""`python -m tests.cluster.forward FD HOST PORT`: passes connections on, from a listener made elsewhere.

A socket stays in the network namespace in which it was made: the listener, inherited as file descriptor FD, is in the
host's, and what is connected here is in the namespace that this process was started in.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

_CHUNK = 1 << 18


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the reader's end, which is passed on."""
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """One connection; when either side breaks it off, or nobody is there, both end."""
    with contextlib.closing(writer), contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection(host, port)
        with contextlib.closing(far_writer):
            ways = [asyncio.create_task(_copy(reader, far_writer)), asyncio.create_task(_copy(far_reader, writer))]
            try:
                await asyncio.gather(*ways)
            finally:
                for way in ways:
                    way.cancel()


async def main() -> None:
    """Until killed."""
    descriptor, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    server = await asyncio.start_server(
        lambda reader, writer: pass_on(reader, writer, host, port), sock=socket.socket(fileno=descriptor)
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
