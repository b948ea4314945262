"""Judges an HTTP answer by what the spec expects of it; pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backendhealth.core.patterns import Pattern, compiled
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.generic import HttpExpect, HttpExpectedHeader, HttpExpectedJson
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.matching import excerpt

if TYPE_CHECKING:
    from backendhealth.core.json_path import JsonPath

MAX_BODY = 1 << 20
"""Bytes of a body that are read, and bytes of what it unpacks to."""
_ZLIB_OR_GZIP = 47  # zlib's number for: tell which by the header

_REFUSALS = {
    401: (Reason.AUTHENTICATION_FAILED, "the server does not accept the credentials"),
    403: (Reason.PERMISSION_DENIED, "the server does not allow this request"),
    429: (Reason.OVERLOADED, "the server refuses requests: too many"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are lower case. `whole` is False when the body was cut at MAX_BODY."""

    status: int
    headers: Mapping[str, Sequence[str]]
    body: bytes
    whole: bool


class Expectation:
    """`HttpExpect`, compiled once."""

    def __init__(self, expect: HttpExpect | None) -> None:
        expect = expect or HttpExpect()
        self._statuses = [_range(text) for text in expect.status]
        self._told = ", ".join(expect.status)
        self._headers = [(header, _optional(header.regex)) for header in expect.headers]
        self._body = _optional(expect.body_regex)
        self._json = [(item, _compiled_path(item.path), _optional(item.regex)) for item in expect.json_path]

    def check(self, answer: Answer, secrets: tuple[str, ...]) -> None:
        """Raise ProbeError for the first expectation that `answer` does not meet; messages show no `secrets`."""
        self._check_status(answer, secrets)
        for header, pattern in self._headers:
            _check_header(header, pattern, answer.headers, secrets)
        if self._body is None and not self._json:
            return
        body, whole = unpacked(answer)
        if self._body is not None and not self._body.search(body):
            raise ProbeError(Reason.UNEXPECTED_BODY, f"the body does not match: {excerpt(body, secrets)}")
        if self._json:
            self._check_json(_parsed(body, secrets, whole=whole), secrets)

    def _check_status(self, answer: Answer, secrets: tuple[str, ...]) -> None:
        status = answer.status
        if any(low <= status <= high for low, high in self._statuses):
            return
        reason, told = _REFUSALS.get(status, (Reason.UNEXPECTED_STATUS, f"expected {self._told}"))
        if reason is Reason.AUTHENTICATION_FAILED and not secrets:
            told = "the server asks for credentials, and the probe has none: set auth"
        begins = f"; the body begins {excerpt(answer.body, secrets)}" if answer.body else ""
        raise ProbeError(reason, f"status {status}, {told}{begins}")

    def _check_json(self, document: object, secrets: tuple[str, ...]) -> None:
        for item, path, pattern in self._json:
            _check_path(item, path, pattern, document, secrets)


def unpacked(answer: Answer) -> tuple[bytes, bool]:
    """The body without its Content-Encoding, cut at MAX_BODY, and whether that is all of it. Raises ProbeError."""
    encoding = ", ".join(answer.headers.get("content-encoding", ())).strip().lower()
    if encoding in {"", "identity"}:
        return answer.body, answer.whole
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        told = f"the body is encoded as {excerpt(encoding, limit=40)}, which nobody asked for"
        raise ProbeError(Reason.PROTOCOL_ERROR, told)
    data, complete = _inflated(answer.body)
    return data, answer.whole and complete


def _inflated(data: bytes) -> tuple[bytes, bool]:
    unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        return unpacker.decompress(data, MAX_BODY), unpacker.eof
    except zlib.error:
        raise ProbeError(Reason.PROTOCOL_ERROR, "the body is not compressed as its Content-Encoding says") from None


def _parsed(body: bytes, secrets: tuple[str, ...], *, whole: bool) -> object:
    if not whole:
        raise ProbeError(Reason.UNEXPECTED_BODY, f"the body is too long to be read as JSON: over {MAX_BODY >> 20} MiB")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProbeError(Reason.UNEXPECTED_BODY, f"the body is not JSON: {excerpt(body, secrets)}") from None


def _range(text: str) -> tuple[int, int]:
    if text.endswith("xx"):
        return int(text[0]) * 100, int(text[0]) * 100 + 99
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _optional(expression: str | None) -> Pattern | None:
    return None if expression is None else compiled(expression)


def _compiled_path(path: str) -> JsonPath:
    from backendhealth.core.json_path import JsonPath  # noqa: PLC0415 - 100 ms that only such probes pay

    return JsonPath(path)


def _check_header(
    header: HttpExpectedHeader,
    pattern: Pattern | None,
    headers: Mapping[str, Sequence[str]],
    secrets: tuple[str, ...],
) -> None:
    values = headers.get(header.name.lower(), ())
    if not values:
        raise ProbeError(Reason.UNEXPECTED_HEADER, f"the answer has no header {header.name}")
    if pattern is not None and not any(pattern.search(value.encode("utf-8", "surrogateescape")) for value in values):
        seen = excerpt(values[0], secrets)
        raise ProbeError(Reason.UNEXPECTED_HEADER, f"the header {header.name} does not match: {seen}")


def _check_path(
    item: HttpExpectedJson, path: JsonPath, pattern: Pattern | None, document: object, secrets: tuple[str, ...]
) -> None:
    from backendhealth.core.json_path import TooMuchWorkError  # noqa: PLC0415 - loaded already

    try:
        found = [(place, _text(value)) for place, value in path.find(document)]
    except (TooMuchWorkError, RecursionError):
        raise ProbeError(Reason.UNEXPECTED_BODY, f"the JSON is too large or too deep to find {item.path} in") from None
    if not found:
        raise ProbeError(Reason.UNEXPECTED_BODY, f"the JSON has nothing at {item.path}")
    for place, value in found:
        seen = f"the JSON has {excerpt(value, secrets)} at {excerpt(place, secrets)[1:-1]}"
        if item.equals is not None and value != item.equals:
            raise ProbeError(Reason.UNEXPECTED_BODY, f'{seen}, expected "{item.equals}"')
        if pattern is not None and not pattern.search(value.encode("utf-8", "surrogatepass")):
            raise ProbeError(Reason.UNEXPECTED_BODY, f"{seen}, which does not match")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
