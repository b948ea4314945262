"""What `--watch` prints: a line for each change, or on a terminal a live table."""

from __future__ import annotations

import time
from typing import IO, TYPE_CHECKING, Protocol

from backendhealth.cli.output import Result, probe_rows, resource_row
from backendhealth.core.observation import Observation
from backendhealth.core.spec.backendhealth import BackendHealth, condition_prefix
from backendhealth.core.spec.status import BackendHealthStatus, Transition

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLOURS = {"Healthy": "green", "Degraded": "yellow", "Unknown": "magenta", "Unhealthy": "red"}


class View(Protocol):
    """Shows statuses as they come."""

    def changed(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        """Take a new status."""

    def close(self) -> None:
        """Show no more."""


class Lines:
    """One line for each change of a component's verdict or reason."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._last: dict[str, Transition | None] = {}
        self._verdicts: dict[tuple[str, str], str] = {}

    def changed(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        """Print the newest transition, if it has not been printed."""
        newest = status.history[0] if status.history else None
        if newest is None or newest == self._last.get(resource.key):
            return
        self._last[resource.key] = newest
        place = (resource.key, newest.component)
        before = self._verdicts.get(place, "Unknown")
        self._verdicts[place] = newest.verdict
        arrow = newest.verdict if before == newest.verdict else f"{before} -> {newest.verdict}"
        message = _message(status, newest.component)
        print(
            f"{newest.at}  {resource.key}  {newest.component}  {arrow}  {newest.reason}: {message}",
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        """Nothing is open."""


def _message(status: BackendHealthStatus, component: str) -> str:
    kind = f"{condition_prefix(component)}Healthy"
    return next(condition.message for condition in status.conditions if condition.type == kind)


class LiveTable:
    """A table that is redrawn in place once a second and on each change."""

    def __init__(self, stream: IO[str], findings: dict[tuple[str, str], Observation]) -> None:
        from rich.console import Console  # noqa: PLC0415  only a terminal pays for it
        from rich.live import Live  # noqa: PLC0415

        self._results: dict[str, Result] = {}
        self._findings = findings
        self._live = Live(get_renderable=self._draw, console=Console(file=stream), refresh_per_second=2)
        self._live.start()

    def changed(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        """Take a new status and redraw."""
        self._results[resource.key] = (resource, status)
        self._live.refresh()

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def _draw(self) -> Group:
        from rich.console import Group  # noqa: PLC0415

        now = time.time()
        tables: list[Table] = []
        for resource, status in self._results.values():
            name, *cells = resource_row(resource, status, now, wide=True)
            state, cause, reason, impact, since, message = cells
            told = "  ".join(word for word in (state, cause, reason, impact, since, message) if word)
            tables.append(_table(f"{name}: {told}", probe_rows(resource, status, self._findings, now, wide=False)))
        return Group(*tables)


def _table(title: str, rows: list[list[str]]) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2))
    for heading in rows[0]:
        table.add_column(heading, overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    return table
