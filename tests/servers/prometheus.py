"""A real Prometheus on loopback, scraping one target every second, with its rules."""

from __future__ import annotations

import contextlib
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.servers.process import LOOPBACK, Process, find_binary, free_port

_REMEDY = "run `make servers`"


def promtool() -> str:
    """Path of promtool."""
    return find_binary("promtool", env="PROMTOOL_BINARY", remedy=_REMEDY)


class Prometheus:
    """Scrapes `target` (host:port) with `honor_labels`, and evaluates `rules`."""

    def __init__(self, target: str, rules: dict[str, Any]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bh-prometheus-")
        path = Path(self._directory.name)
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path / "rules.yaml")],
            "scrape_configs": [
                {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [target]}]},
            ],
        }
        (path / "rules.yaml").write_text(yaml.safe_dump(rules))
        (path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        argv = [
            find_binary("prometheus", env="PROMETHEUS_BINARY", remedy=_REMEDY),
            f"--config.file={path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={path / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--log.level=warn",
        ]
        self._process = Process("prometheus", argv, ready=self._ready)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.close()
        self._directory.cleanup()

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):
            return True
        return False
