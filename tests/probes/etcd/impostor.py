"""A gRPC server that is not etcd: it answers etcd's methods with whatever a test wants."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import grpc

from backendhealth.probes import etcd_stubs

Answer = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]
STATUS = "/etcdserverpb.Maintenance/Status"
ALARM = "/etcdserverpb.Maintenance/Alarm"
RANGE = "/etcdserverpb.KV/Range"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        answer = self._answers.get(details.method)
        return grpc.unary_unary_rpc_method_handler(answer) if answer else None


@contextlib.asynccontextmanager
async def impostor(answers: Mapping[str, Answer]) -> AsyncIterator[str]:
    """The server's URL; a method that is not in `answers` is unimplemented."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((_Methods(answers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


def says(message: object) -> Answer:
    """Answers with `message`, one of etcd's or raw bytes."""
    raw = message if isinstance(message, bytes) else message.SerializeToString()  # type: ignore[attr-defined]

    async def answer(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return raw

    return answer


def fails(code: grpc.StatusCode, details: str) -> Answer:
    """Answers with an error."""

    async def answer(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(code, details)
        return b""

    return answer


def good_status() -> Answer:
    """A status as a healthy member 1, which leads, would give it."""
    rpc = etcd_stubs.messages()
    return says(rpc.StatusResponse(header=rpc.ResponseHeader(member_id=1, cluster_id=2), version="3.5.1", leader=1))
