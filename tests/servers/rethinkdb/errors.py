"""Errors as the server reports them: response type, error code, message and the path to the failing term."""

from __future__ import annotations

from typing import Any

CLIENT, COMPILE, RUNTIME = 16, 17, 18

RESOURCE_LIMIT = 2_000_000
QUERY_LOGIC = 3_000_000
NON_EXISTENCE = 3_100_000
OP_FAILED = 4_100_000
OP_INDETERMINATE = 4_200_000
USER = 5_000_000
PERMISSION = 6_000_000


class ReqlError(Exception):
    """An error that becomes a response. `path` grows at its front while the error leaves the nested terms."""

    def __init__(self, kind: int, message: str, code: int | None = None, path: list[Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message
        self.path: list[Any] = path or []

    def response(self) -> dict[str, Any]:
        """The JSON of the response; client and compile errors carry no code."""
        answer: dict[str, Any] = {"t": self.kind}
        if self.code is not None:
            answer["e"] = self.code
        return answer | {"r": [self.message], "b": self.path}


def client(message: str) -> ReqlError:
    """The client broke the protocol."""
    return ReqlError(CLIENT, message)


def compile_error(message: str) -> ReqlError:
    """The query is not well formed."""
    return ReqlError(COMPILE, message)


def runtime(code: int, message: str, path: list[Any] | None = None) -> ReqlError:
    """The query failed while it ran."""
    return ReqlError(RUNTIME, message, code, path)


def logic(message: str, path: list[Any] | None = None) -> ReqlError:
    """A type or name that cannot work."""
    return runtime(QUERY_LOGIC, message, path)


def failed(message: str) -> ReqlError:
    """Something is missing or not available: only the message tells which."""
    return runtime(OP_FAILED, message)


def denied(user: str, permission: str) -> ReqlError:
    """A missing grant."""
    return runtime(PERMISSION, f"User `{user}` does not have the required `{permission}` permission.")
