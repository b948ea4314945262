"""`python -m tests.servers.rethinkdb`: takes the real server's options, and `--sim-…` for its timings."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import signal
import ssl
import sys
from pathlib import Path

from tests.servers.rethinkdb.availability import Timings
from tests.servers.rethinkdb.links import HOST
from tests.servers.rethinkdb.node import Node
from tests.servers.rethinkdb.session import Session


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rethinkdb")
    parser.add_argument("--server-name", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--driver-port", type=int, required=True)
    parser.add_argument("--cluster-port", type=int, required=True)
    parser.add_argument("--join", action="append", default=[])
    parser.add_argument("--initial-password", default="")
    parser.add_argument("--driver-tls-key")
    parser.add_argument("--driver-tls-cert")
    parser.add_argument("--no-http-admin", action="store_true")
    parser.add_argument("--no-update-check", action="store_true")
    parser.add_argument("--cache-size")
    for field in dataclasses.fields(Timings):
        parser.add_argument(f"--sim-{field.name.replace('_', '-')}", type=float, default=field.default)
    return parser.parse_args()


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if not arguments.driver_tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.driver_tls_cert, arguments.driver_tls_key)
    return context


async def _serve(arguments: argparse.Namespace) -> None:
    timings = {field.name: getattr(arguments, f"sim_{field.name}") for field in dataclasses.fields(Timings)}
    node = Node(
        arguments.server_name,
        arguments.directory,
        port=arguments.driver_port,
        cluster_port=arguments.cluster_port,
        password=arguments.initial_password,
        timings=Timings(**timings),
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Session(node, reader, writer).serve()

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await node.links.start([int(address.rsplit(":", 1)[1]) for address in arguments.join])
    await asyncio.start_server(serve, HOST, arguments.driver_port, ssl=_tls(arguments), backlog=512)
    print(f'Server ready, "{node.name}" {node.id}', flush=True)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
    sys.exit(0)
