"""The services' log lines, to stdout and a file, and the signal that toggles how much is said."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from tests.servers.placeos.settings import Settings

TRACE = 5
_LETTERS = {TRACE: "T", logging.DEBUG: "D", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E"}
log = logging.getLogger("place_os")


class _Lines(logging.Formatter):
    """level=[I] time=… source=place_os message=… as action-controller writes it."""

    def format(self, record: logging.LogRecord) -> str:
        when = self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ")
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" exception={type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        return f"level=[{_LETTERS.get(record.levelno, 'F')}] time={when} source={record.name} message={text}"


def trace(text: str, *args: object) -> None:
    """A line that is written only while trace is on."""
    log.log(TRACE, text, *args)


def set_up(settings: Settings) -> None:
    """Begin to log."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if settings.log_file:
        handlers.append(logging.FileHandler(settings.log_file))
    for handler in handlers:
        handler.setFormatter(_Lines())
        log.addHandler(handler)
    log.setLevel(_usual(settings))


def trap_usr1(settings: Settings) -> None:
    """SIGUSR1 turns trace on, and the next one off again; needs a running loop."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _toggle, settings)


def _toggle(settings: Settings) -> None:
    level = _usual(settings) if log.level == TRACE else TRACE
    log.setLevel(level)
    name = {TRACE: "Trace", logging.DEBUG: "Debug", logging.INFO: "Info"}[level]
    log.info("default log level changed to %s", name)
    log.info("action-controller.*, place_os.* log level changed to %s", name)


def _usual(settings: Settings) -> int:
    """What toggling off restores: not what LOG_LEVEL said."""
    return logging.INFO if settings.production else logging.DEBUG
