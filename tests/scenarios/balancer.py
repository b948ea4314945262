"""A load balancer that passes connections on: `python -m tests.scenarios.balancer HOST PORT TARGET TARGET_PORT`."""

from __future__ import annotations

import asyncio
import sys

from tests.cluster.forward import pass_on


async def main() -> None:
    """Until killed."""
    host, port, target, target_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    server = await asyncio.start_server(lambda reader, writer: pass_on(reader, writer, target, target_port), host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
