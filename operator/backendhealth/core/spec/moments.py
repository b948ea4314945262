"""Moments in specs, as RFC 3339 writes them."""

from __future__ import annotations

import datetime as dt
import re

from pydantic_core import PydanticCustomError

from backendhealth.core.spec.base import Checked

_MILLENNIUM = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII)
_MAX_TIMESTAMP_LENGTH = 35


def timestamp() -> Checked:
    """Checks a moment as RFC 3339 writes it, in this millennium, in Python and in CEL alike."""
    message = "must be a time as RFC 3339 writes it, e.g. 2026-01-05T12:00:00Z"

    def check(value: str) -> str:
        if len(value) > _MAX_TIMESTAMP_LENGTH:
            raise PydanticCustomError("length", f"at most {_MAX_TIMESTAMP_LENGTH} characters")
        try:
            good = bool(_TIMESTAMP.fullmatch(value)) and dt.datetime.fromisoformat(value) > _MILLENNIUM
        except ValueError:
            good = False
        if not good:
            raise PydanticCustomError("timestamp", message)
        return value

    schema = {
        "type": "string",
        "maxLength": _MAX_TIMESTAMP_LENGTH,
        "x-kubernetes-validations": [
            {
                "rule": f"timestamp(self) > timestamp('{_MILLENNIUM:%Y-%m-%dT%H:%M:%SZ}')",
                "message": f"timestamp: {message}",
            }
        ],
    }
    return Checked(check, schema)
