"""Log lines as text or JSON; one line for each change of a resource."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Literal

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.status import BackendHealthStatus, Summary
from backendhealth.core.verdict import Verdict

log = logging.getLogger(__name__)

MAX_LINE = 4096
"""Characters of a message."""
_FIELDS = ("resource", "state", "rootCause", "reason")
_CHATTY = (
    "kopf._core.reactor.running",
    "kopf._core.reactor.orchestration",
    "kopf._cogs.clients.watching",
)
"""How a watch ended is told by who begins it anew, on one line."""
_CALM = {Verdict.HEALTHY.value, Verdict.DEGRADED.value, "Suspended"}
"""States that are logged as info, not as a warning; so is what is merely not decided yet."""


class TextFormatter(logging.Formatter):
    """A line for people: time, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback, where there is one, follows on lines of its own."""
        line = f"{_time(record)} {record.levelname:<7} {_message(record)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message; resource, state, rootCause and reason where known."""

    def format(self, record: logging.LogRecord) -> str:
        """The object on one line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: Literal["text", "json"], level: str) -> None:
    """Send all lines to standard error.

    `level` is for our own lines. Of libraries only what is graver than info is shown, whatever the level: their lines
    for debugging may hold whole answers of the API server, Secrets included.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]  # those that `kopf run` has made, too
    root.setLevel(logging.WARNING)
    logging.getLogger("backendhealth").setLevel(level.upper())
    logging.getLogger("asyncio").propagate = True  # kopf turns it off
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def log_change(key: str, old: Summary | None, new: BackendHealthStatus) -> None:
    """One line when state, root cause or reason of the resource `key` (`namespace/name`) are others than before."""
    now = new.summary
    if now is None or (old and (old.state, old.root_cause, old.reason) == (now.state, now.root_cause, now.reason)):
        return
    words = " ".join(word for word in (now.state, now.root_cause, now.reason) if word)
    before = f" (was {old.state})" if old and old.state != now.state else ""
    fields = {"resource": key, "state": now.state, "rootCause": now.root_cause, "reason": now.reason}
    level = logging.INFO if now.state in _CALM or now.reason == Reason.PENDING else logging.WARNING
    log.log(level, "%s: %s%s%s", key, words, before, f": {now.message}" if now.message else "", extra=fields)


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    return clip(record.getMessage(), MAX_LINE)


def _fields(record: logging.LogRecord) -> dict[str, str]:
    fields = {name: getattr(record, name, "") for name in _FIELDS}
    ref = getattr(record, "k8s_ref", None)  # kopf's
    if ref:
        fields["resource"] = f"{ref.get('namespace')}/{ref.get('name')}"
    return {name: value for name, value in fields.items() if value}
