"""A small HTTP server in a process of its own, quick enough not to be what is measured: `python -m bench.peer PORT`."""

from __future__ import annotations

import asyncio
import sys

_BODY = b'{"status": "ok", "version": "1.2.3", "checks": {"database": "ok", "queue": "ok"}}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_END_OF_REQUEST = b"\r\n\r\n"


class Peer(asyncio.Protocol):
    """Answers every GET alike and keeps the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(_ANSWER * data.count(_END_OF_REQUEST))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
