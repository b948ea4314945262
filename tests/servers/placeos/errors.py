"""Failures of backends, in the words that a Crystal program has for them."""

from __future__ import annotations

import errno
import os
import socket

TIMED_OUT = "Read timed out"


class BackendError(Exception):
    """A backend that could not be asked; `backend` is its name in the log, the text what a client may see."""

    def __init__(self, backend: str, text: str) -> None:
        super().__init__(text)
        self.backend = backend

    @property
    def timed_out(self) -> bool:
        """Whether it did not answer in time, rather than refuse."""
        return str(self).endswith(TIMED_OUT)


class HttpError(Exception):
    """An answer other than success, with its JSON body."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def connect_error(address: str, error: BaseException) -> str:
    """What Crystal's Socket::ConnectError and IO::TimeoutError say. [inf]"""
    if isinstance(error, TimeoutError):
        return f"Error connecting to '{address}': {TIMED_OUT}"
    if isinstance(error.__cause__ or error, socket.gaierror):
        return f"Hostname lookup for {address.rpartition(':')[0]} failed: No address found"
    number = next((one.errno for one in (error, error.__cause__) if isinstance(one, OSError) and one.errno), None)
    if number is None:
        return f"Error connecting to '{address}': Connection refused" if not str(error) else str(error)
    reason = os.strerror(abs(number)) if abs(number) in errno.errorcode else str(error)
    return f"Error connecting to '{address}': {reason}"
