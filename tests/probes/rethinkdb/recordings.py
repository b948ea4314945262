"""The recorded exchanges, and their replay against a server with the answers compared."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.rethinkdb import RethinkDB
from tests.servers.rethinkdb.client import BareClient

DATA = Path(__file__).parents[2] / "data" / "rethinkdb"
_ADMIN_EVENTS = ("admin ran", "admin removed")
_FREE_KEYS = "connected_to"  # its keys are names of servers
_NULLABLE = "raft_leader"
_FIRST_ERROR = 16

Line = dict[str, Any]


def lines(number: str) -> list[Line]:
    """The lines of recording `number`, e.g. `"04"`."""
    (path,) = DATA.glob(f"{number}_*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def snapshot(name: str) -> dict[str, Any]:
    """A snapshot's documents by table."""
    value: dict[str, Any] = json.loads((DATA / "snapshots" / f"{name}.json").read_text())
    return value


def same_shape(one: Any, other: Any, key: str = "") -> bool:
    """Whether two values have the same keys and types. An empty list is like any list: what it holds is the state's."""
    if isinstance(one, dict) and isinstance(other, dict):
        if key == _FREE_KEYS:
            return all(isinstance(value, bool) for value in (*one.values(), *other.values()))
        return one.keys() == other.keys() and all(same_shape(one[name], other[name], name) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return all(any(same_shape(a, b) for b in other) for a in one) or not other
    if key == _NULLABLE and (one is None or other is None):
        return all(value is None or isinstance(value, str) for value in (one, other))
    return _kind(one) is _kind(other)


def _kind(value: Any) -> type:
    """The type as JSON has it: one for all numbers."""
    return float if type(value) is int else type(value)


def same_answer(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """All of an error must be equal; of a success the type, the notes and the shape."""
    if one["t"] >= _FIRST_ERROR or one.keys() != other.keys():
        return one == other
    return one["t"] == other["t"] and one.get("n") == other.get("n") and same_shape(one["r"], other["r"])


@dataclass
class Replay:
    """Puts a recording's questions to `server` as `user` and collects what was answered in another way."""

    server: RethinkDB
    user: str = "admin"
    password: str = ""
    on_event: Callable[[str], None] = lambda _text: None
    differences: list[tuple[Any, Any, Any]] = field(default_factory=list)
    _questions: dict[tuple[int, int], Any] = field(default_factory=dict)
    _clients: dict[int, BareClient] = field(default_factory=dict)
    _by_admin: bool = False

    def run(self, recording: list[Line]) -> int:
        """How many answers were compared."""
        compared = 0
        with contextlib.ExitStack() as stack:
            admin = stack.enter_context(self._connect("admin", self.server.admin_password))
            for line in recording:
                if line["kind"] == "event":
                    self._by_admin = line["body"].startswith(_ADMIN_EVENTS)
                    self.on_event(line["body"])
                elif line["kind"] == "open":
                    self._clients[line["conn"]] = stack.enter_context(self._connect(self.user, self.password))
                elif line["kind"] == "query":
                    self._ask(line, admin)
                elif line["kind"] == "response":
                    compared += 1
                    self._compare(line, admin)
        return compared

    @contextlib.contextmanager
    def _connect(self, user: str, password: str) -> Iterator[BareClient]:
        with BareClient(self.server.port) as client:
            assert client.login(user, password)["success"]
            yield client

    def _client(self, line: Line, admin: BareClient) -> BareClient:
        return admin if self._by_admin else self._clients[line["conn"]]

    def _ask(self, line: Line, admin: BareClient) -> None:
        body = line["body"]
        self._questions[line["conn"], line["token"]] = body
        raw = body["text"].encode() if isinstance(body, dict) else body
        self._client(line, admin).query(line["token"], raw)

    def _compare(self, line: Line, admin: BareClient) -> None:
        answer = self._client(line, admin).answer(line["token"])
        self._by_admin = False
        if not same_answer(answer, line["body"]):
            self.differences.append((self._questions[line["conn"], line["token"]], line["body"], answer))
