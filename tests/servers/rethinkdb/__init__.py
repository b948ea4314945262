"""RethinkDB for tests: the real server where there is a binary, else a stand-in that keeps to the recordings.

No package registry has the server. When `rethinkdb` is on PATH or RETHINKDB_BINARY names it, `RethinkDB` runs it;
otherwise it runs `python -m tests.servers.rethinkdb`, which takes the same options. States are made by the same
means for both: kill, SIGSTOP, restart, and ReQL as admin.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers.certs import Pair
from tests.servers.process import LOOPBACK, Process, free_port, port_answers, wait_until

_ROOT = Path(__file__).parents[3]
BINARY = os.environ.get("RETHINKDB_BINARY") or shutil.which("rethinkdb")
SIMULATED = BINARY is None
DATABASE = "hc"
NAMES = ("node-a", "node-b", "node-c")


class RethinkDB(Process):
    """One server on loopback. `timings` are fields of `availability.Timings`; a real server ignores them."""

    def __init__(
        self,
        name: str = NAMES[0],
        *,
        join: Sequence[RethinkDB] = (),
        tls: Pair | None = None,
        ca_file: Path | None = None,
        initial_password: str = "",
        timings: Mapping[str, float] | None = None,
    ) -> None:
        self.port = free_port()
        self.cluster_port = free_port()
        self.admin_password = initial_password
        self._ca_file = ca_file
        super().__init__(f"rethinkdb-{name}", [], ready=lambda: port_answers(self.port), env=_environment())
        self.argv = [BINARY] if BINARY else [sys.executable, "-m", "tests.servers.rethinkdb"]
        self.argv += ["--server-name", name, "--directory", str(self.directory / "data")]
        self.argv += ["--driver-port", str(self.port), "--cluster-port", str(self.cluster_port)]
        self.argv += ["--no-http-admin", "--no-update-check", "--cache-size", "64"]
        for other in join:
            self.argv += ["--join", f"{LOOPBACK}:{other.cluster_port}"]
        if initial_password:
            self.argv += ["--initial-password", initial_password]
        if tls is not None:
            self.argv += ["--driver-tls-key", str(tls.key_file), "--driver-tls-cert", str(tls.cert_file)]
        if SIMULATED:
            for field, value in (timings or {}).items():
                self.argv += [f"--sim-{field.replace('_', '-')}", str(value)]

    def run(self, term: Any) -> Any:
        """The value of a ReQL term, run as admin on a connection of its own; sequences as lists."""
        with self.admin() as connection:
            value = term.run(connection)
            return value if isinstance(value, dict | list | str | int | float | None) else list(value)

    def admin(self, *, user: str = "admin", password: str | None = None) -> Any:
        """A connection of the official (blocking) driver."""
        options = {"ca_certs": str(self._ca_file)} if self._ca_file else None
        secret = self.admin_password if password is None else password
        host = "localhost" if options else LOOPBACK
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the blocking driver's way of making TLS contexts
            return driver().connect(host=host, port=self.port, user=user, password=secret, ssl=options, timeout=10)

    def prepare(self, *tables: str, replicas: int = 1) -> None:
        """Make the recordings' database with `tables` of two rows each, and wait until they are ready."""
        r = driver()
        self.run(r.db_create(DATABASE))
        for table in tables:
            self.run(r.db(DATABASE).table_create(table, replicas=replicas))
            rows = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
            self.run(r.db(DATABASE).table(table).wait(wait_for="all_replicas_ready", timeout=10))
            self.run(r.db(DATABASE).table(table).insert(rows))

    def add_user(self, name: str, password: str, *, read: Sequence[str] = ("rethinkdb",)) -> None:
        """A user that may read the databases `read`."""
        r = driver()
        self.run(r.db("rethinkdb").table("users").insert({"id": name, "password": password}))
        for database in read:
            self.run(r.db(database).grant(name, {"read": True}))

    def statuses(self) -> list[dict[str, Any]]:
        """table_status, in the order of names."""
        rows: list[dict[str, Any]] = self.run(driver().db("rethinkdb").table("table_status"))
        return sorted(rows, key=lambda row: (row["db"], row["name"]))


def driver() -> Any:
    """The official driver, blocking."""
    from rethinkdb import RethinkDB as Driver

    return Driver()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT)}


@contextlib.contextmanager
def three_nodes(**timings: float) -> Iterator[tuple[RethinkDB, RethinkDB, RethinkDB]]:
    """The recordings' cluster: hc.jobs with its primary on node-a, hc.orders on node-b, three replicas each."""
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(RethinkDB(NAMES[0], timings=timings))
        b = stack.enter_context(RethinkDB(NAMES[1], join=[a], timings=timings))
        c = stack.enter_context(RethinkDB(NAMES[2], join=[a, b], timings=timings))
        r = driver()
        servers = r.db("rethinkdb").table("server_status").count()
        wait_until(lambda: all(node.run(servers) == 3 for node in (a, b, c)), 15, "three servers see each other")
        a.prepare("jobs", "orders", replicas=3)
        for table, primary in (("jobs", NAMES[0]), ("orders", NAMES[1])):
            shard = {"primary_replica": primary, "replicas": list(NAMES)}
            a.run(r.db(DATABASE).table(table).config().update({"shards": [shard]}))
        wait_until(lambda: _settled(a), 15, "all replicas ready")
        yield a, b, c


def _settled(node: RethinkDB) -> bool:
    rows = node.statuses()
    primaries = [row["shards"][0]["primary_replicas"] for row in rows]
    return primaries == [[NAMES[0]], [NAMES[1]]] and all(row["status"]["all_replicas_ready"] for row in rows)
