"""A genuine Elasticsearch node, alone or as one of three, as processes of the tests."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from tests.servers.elasticsearch.install import JVM_OPTIONS, archive, class_path, install, java
from tests.servers.process import LOOPBACK, Process, free_port, wait_until

_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
# A killed peer is noticed at once (its connection closes), a frozen one soon.
_QUICK: dict[str, object] = {
    "cluster.election.initial_timeout": "50ms",
    "cluster.election.back_off_time": "50ms",
    "cluster.election.max_timeout": "1s",
    "cluster.fault_detection.follower_check.interval": "500ms",
    "cluster.fault_detection.follower_check.timeout": "1s",
    "cluster.fault_detection.leader_check.interval": "500ms",
    "cluster.fault_detection.leader_check.timeout": "1s",
    "discovery.find_peers_interval": "100ms",
    "discovery.initial_state_timeout": "0s",
    "cluster.routing.allocation.disk.threshold_enabled": False,  # a full disk here must not fail a test
    "cluster.info.update.interval": "10s",  # the least allowed: how soon it sees the disks' use
    "action.destructive_requires_name": False,
    "node.processors": 2,
}


class Elasticsearch(Process):
    """One node; `settings` are those of elasticsearch.yml, beyond quick and loopback ones. Up in 2 to 5 s."""

    def __init__(
        self,
        *,
        name: str = "node-1",
        settings: Mapping[str, object] | None = None,
        jvm_options: Sequence[str] = (),
        heap: str = "256m",
        root: Path | None = None,
    ) -> None:
        root = root or install()
        self.node_name = name
        self.port = free_port()
        self.transport_port = free_port()
        shared = [f"-XX:SharedArchiveFile={archive(root)}"] if archive(root).exists() else []
        super().__init__("elasticsearch", [], ready=self.answers, start_timeout=90)
        config = self.directory / "config"
        self.argv = [
            java(), f"-Xms{heap}", f"-Xmx{heap}", f"-Djava.io.tmpdir={self.directory}", *JVM_OPTIONS, *shared,
            *jvm_options, "-cp", class_path(root), "ServerMain", str(root), str(config),
        ]  # fmt: skip
        self._settings: dict[str, object] = {
            **_QUICK,
            "cluster.name": "tests",
            "node.name": name,
            "network.host": LOOPBACK,
            "http.port": self.port,
            "transport.port": self.transport_port,
            "path.data": str(self.directory / "data"),
            "path.logs": str(self.directory / "logs"),
            **(settings if settings is not None else {"discovery.type": "single-node"}),
        }
        config.mkdir()
        (config / "log4j2.properties").write_text(_LOGGING)
        self.configure({})

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def configure(self, settings: Mapping[str, object]) -> None:
        """Add to elasticsearch.yml; counts from the next start."""
        self._settings.update(settings)
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in self._settings.items())
        (self.directory / "config" / "elasticsearch.yml").write_text("".join(lines))

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 30) -> Any:
        """The server's JSON answer; raises OSError when there is none, AssertionError on an error status."""
        status, answer = self.exchange(method, path, body, timeout=timeout)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def exchange(self, method: str, path: str, body: object = None, *, timeout: float = 30) -> tuple[int, Any]:
        """(HTTP status, JSON answer) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=timeout)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def reset(self) -> None:
        """Delete all indices and all settings made by the API."""
        settings = self.request("GET", "/_cluster/settings?flat_settings=true")
        for kind in ("persistent", "transient"):
            if settings[kind]:
                self.request("PUT", "/_cluster/settings", {kind: dict.fromkeys(settings[kind])})
        self.request("DELETE", "/*?expand_wildcards=all")

    def answers(self) -> bool:
        """Whether it serves requests and has a master."""
        try:
            return self.exchange("GET", "/_cluster/health?master_timeout=1s", timeout=5)[0] == 200
        except OSError:
            return False


class ThreeNodes:
    """Three master-eligible data nodes that form one cluster. Form in about 5 s."""

    def __init__(self) -> None:
        names = ["node-1", "node-2", "node-3"]
        self.nodes = [Elasticsearch(name=name, settings={}) for name in names]
        seeds = [f"{LOOPBACK}:{node.transport_port}" for node in self.nodes]
        for node in self.nodes:
            node.configure({"discovery.seed_hosts": seeds, "cluster.initial_master_nodes": names})

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start(wait=False)
            for node in self.nodes:
                node.wait_ready()
            self.wait_for_nodes(3)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def wait_for_nodes(self, count: int, timeout: float = 60) -> None:
        """Wait until the running nodes agree on `count` members; raises TimeoutError."""
        path = f"/_cluster/health?wait_for_nodes={count}&timeout=1s"

        def formed() -> bool:
            try:
                return all(node.exchange("GET", path, timeout=5)[0] == 200 for node in self.nodes if node.running)
            except OSError:  # still starting
                return False

        wait_until(formed, timeout, f"{count} nodes")

    def master(self) -> Elasticsearch:
        """The node that is elected now."""
        for node in self.nodes:
            if node.running:
                name = node.request("GET", "/_cat/master?format=json")[0]["node"]
                return next(other for other in self.nodes if other.node_name == name)
        raise AssertionError("no node is running")

    @contextlib.contextmanager
    def without(self, *lost: Elasticsearch) -> Iterator[None]:
        """With `lost` killed inside the with block, and the others aware of it; afterwards all three are back."""
        left = [node for node in self.nodes if node not in lost]

        def noticed(node: Elasticsearch) -> bool:
            status, health = node.exchange("GET", "/_cluster/health?master_timeout=100ms")
            return status == HTTPStatus.SERVICE_UNAVAILABLE or health["number_of_nodes"] == len(left)

        for node in lost:
            node.kill()
        try:
            wait_until(lambda: all(map(noticed, left)), 30, "the others notice")
            yield
        finally:
            for node in lost:
                node.start(wait=False)
            self.wait_for_nodes(3)

    def close(self) -> None:
        """Stop all, and delete their directories."""
        for node in self.nodes:
            node.kill()
            node.close()
