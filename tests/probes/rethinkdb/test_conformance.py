"""The test server answers as the recorded one did: same types, codes, messages, paths and shapes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.probes.rethinkdb.recordings import Line, Replay, lines, same_shape, snapshot
from tests.servers.process import wait_until
from tests.servers.rethinkdb import SIMULATED, RethinkDB, driver, three_nodes
from tests.servers.rethinkdb.client import BareClient, EndedError

r = driver()
SYSTEM = r.db("rethinkdb")
SLOW = {"election": 1.5, "startup": 1.5, "handover": 1.5}
stretched = pytest.mark.skipif(not SIMULATED, reason="looks into phases that only the stand-in can stretch")


@pytest.fixture(scope="module")
def single() -> Iterator[RethinkDB]:
    with RethinkDB() as server:
        server.prepare("jobs")
        yield server


@pytest.fixture
def with_user() -> Iterator[RethinkDB]:
    with RethinkDB() as server:
        server.prepare("jobs")
        server.add_user("hc", "hcpw", read=())
        yield server


# handshake


def _conversations() -> dict[str, list[Line]]:
    conversations: dict[str, list[Line]] = {}
    name = ""
    for line in lines("15"):
        if line["kind"] == "event":
            name = line["body"]
        conversations.setdefault(name, []).append(line)
    return conversations


@pytest.mark.parametrize("name", _conversations())
def test_handshake_errors(single: RethinkDB, name: str) -> None:
    with BareClient(single.port, timeout=3) as client:
        for line in _conversations()[name]:
            body = line["body"]
            if line["kind"] == "magic":
                client.send(bytes.fromhex(body))
            elif line["kind"] == "handshake" and line["dir"] == "C>S":
                client.send(_raw(body))
            elif line["kind"] == "handshake":
                assert _same_message(client.text(), body)
            elif line["kind"] == "close" and line["dir"] == "S>C":
                assert client.ended()


def _raw(body: dict[str, Any]) -> bytes:
    if "hex" in body:
        return bytes.fromhex(body["hex"])
    text = body["text"] if set(body) == {"text"} else json.dumps(body)
    return text.encode() + b"\0"


def _same_message(text: bytes, recorded: dict[str, Any]) -> bool:
    if "text" in recorded:
        return bool(text.decode() == recorded["text"])
    message = json.loads(text)
    if "authentication" in message:  # nonce and salt differ, the number of iterations must not
        said, told = (value["authentication"].split(",") for value in (message, recorded))
        return [part[:2] for part in said] == [part[:2] for part in told] and said[-1] == told[-1]
    return bool(message == recorded)


@pytest.mark.parametrize(("number", "connection", "user"), [("02", 1, "admin"), ("02", 2, "hc"), ("03", 1, "nosuch")])
def test_refused_logins(with_user: RethinkDB, number: str, connection: int, user: str) -> None:
    (refusal,) = [line["body"] for line in lines(number) if line["conn"] == connection and _is_refusal(line)]
    with BareClient(with_user.port) as client:
        assert client.login(user, "not the password") == refusal
        assert client.ended()


def _is_refusal(line: Line) -> bool:
    return line["kind"] == "handshake" and line["dir"] == "S>C" and "error" in line["body"]


# questions and answers


def test_single_healthy(single: RethinkDB) -> None:
    replay = Replay(single)
    assert replay.run(lines("01")) == 18
    assert replay.differences == []


def test_grants(with_user: RethinkDB) -> None:
    replay = Replay(with_user, "hc", "hcpw")
    assert replay.run(lines("04")) == 43
    assert replay.differences == []


def test_missing_names_and_error_classes(single: RethinkDB) -> None:
    replay = Replay(single)
    assert replay.run(lines("08")) == 20
    assert replay.differences == []


def test_write_permission_and_a_deleted_user(with_user: RethinkDB) -> None:
    with_user.run(SYSTEM.grant("hc", {"read": True}))
    with_user.run(r.db("hc").table("jobs").grant("hc", {"read": True}))
    replay = Replay(with_user, "hc", "hcpw")
    assert replay.run(lines("11")) == 15
    assert replay.differences == []


def test_stop_and_tokens(single: RethinkDB) -> None:
    replay = Replay(single)
    assert replay.run(lines("12")) == 24
    assert replay.differences == []


@stretched
def test_three_nodes_then_one_down_then_no_majority() -> None:
    with three_nodes(**SLOW) as (a, b, c):

        def on_event(text: str) -> None:
            if text.startswith("node-b killed"):
                b.kill()
                wait_until(lambda: "disconnected" in str(a.statuses()), 5, "the loss is seen")
            elif text.startswith("node-c killed"):
                c.kill()
                wait_until(lambda: not any(row["raft_leader"] for row in a.statuses()), 5, "the loss is seen")
            elif text.startswith("steady"):
                wait_until(lambda: _states_settled(a), 10, "steady state")

        replay = Replay(a, on_event=on_event)
        for number in ("05", "06", "07"):
            assert replay.run(lines(number)) > 10
        assert replay.differences == []


def _states_settled(server: RethinkDB) -> bool:
    """Whether every replica is ready or away, and the cluster speaks no longer of servers that went."""
    states = {replica["state"] for row in server.statuses() for replica in row["shards"][0]["replicas"]}
    names = {row["name"]: row["network"]["connected_to"] for row in server.run(SYSTEM.table("server_status"))}
    return states <= {"ready", "disconnected"} and all(set(seen) <= set(names) for seen in names.values())


# the course of a fault


def _essence(row: dict[str, Any]) -> str:
    """What table_status says of a table, without the name of the raft leader."""
    states = sorted((replica["server"], replica["state"]) for replica in row["shards"][0]["replicas"])
    flags = sorted(name for name, value in row["status"].items() if value)
    led = row["raft_leader"] is not None
    return f"{row['name']} {row['shards'][0]['primary_replicas']} {states} {flags} {'led' if led else 'leaderless'}"


def _recorded(number: str) -> list[str]:
    """All states of tables in the answers of a recording, each once."""
    found: dict[str, None] = {}
    for line in lines(number):
        if line["kind"] == "response" and line["body"]["t"] == 1:
            (value,) = line["body"]["r"]
            rows = value if isinstance(value, list) else []
            found |= {_essence(row): None for row in rows if isinstance(row, dict) and "raft_leader" in row}
    return list(found)


def _watch(server: RethinkDB, wanted: set[str], timeout: float = 8) -> set[str]:
    """Poll table_status until every state of `wanted` was seen; those that were not."""
    missing, until = set(wanted), time.monotonic() + timeout
    while missing and time.monotonic() < until:
        missing -= {_essence(row) for row in server.statuses()}
    return missing


@stretched
def test_states_after_a_kill_are_those_recorded() -> None:
    with three_nodes(**SLOW) as (a, b, c):
        b.kill()
        assert _watch(a, {state for state in _recorded("06") if "disconnected" in state}) == set()
        c.kill()
        assert _watch(a, {state for state in _recorded("07") if "leaderless" in state}) == set()


@stretched
def test_states_after_a_restart_are_those_recorded() -> None:
    with RethinkDB(timings=SLOW) as server:
        server.prepare("jobs")
        server.kill()
        server.start()
        assert _watch(server, set(_recorded("09"))) == set()


@stretched
def test_a_returning_primary_takes_its_table_back_as_recorded() -> None:
    """`orders` goes through readable only, then not even that, before node-b serves it again."""
    with three_nodes(**SLOW) as (a, b, _c):
        b.kill()
        wait_until(lambda: all(row["status"]["ready_for_writes"] for row in a.statuses()), 10, "a new primary")
        b.start()
        seen: list[set[str]] = []
        while not seen or "all_replicas_ready" not in seen[-1]:
            seen.append(_flags(a.statuses()[1]))
        recorded = [
            _flags(row)
            for line in lines("10")
            if line["kind"] == "response" and isinstance(line["body"]["r"][0], list)
            for row in line["body"]["r"][0]
            if row.get("name") == "orders"
        ]
        start = next(i for i, flags in enumerate(recorded) if "ready_for_writes" in flags)
        assert _course(seen) == _course(recorded[start:])


def _flags(row: dict[str, Any]) -> set[str]:
    return {name for name, value in row["status"].items() if value}


def _course(states: list[set[str]]) -> list[set[str]]:
    """What was possible, one entry for each change."""
    return [flags for flags, _ in itertools.groupby(state - {"all_replicas_ready"} for state in states)]


QUICK = {"heartbeat_timeout": 3.0}


@stretched
def test_a_frozen_node_hangs_the_same_queries() -> None:
    """Recording 14: all its questions at once, each on its own connection."""
    recording = lines("14")
    asked = [line for line in recording if line["kind"] == "query" and 4 <= line["conn"] <= 16]
    answers = {line["conn"]: line for line in recording if line["kind"] == "response" and 4 <= line["conn"] <= 16}
    with three_nodes(**QUICK) as (a, b, _c), contextlib.ExitStack() as stack:
        clients = {line["conn"]: stack.enter_context(BareClient(a.port)) for line in asked}
        for client in clients.values():
            client.login()
        b.freeze()
        frozen = time.monotonic()
        for line in asked:
            clients[line["conn"]].query(0, line["body"])
        for line in sorted(asked, key=lambda line: answers[line["conn"]]["t_ms"]):
            recorded = answers[line["conn"]]
            answer = clients[line["conn"]].answer(0)
            late = time.monotonic() - frozen > QUICK["heartbeat_timeout"] / 2
            assert late is (recorded["t_ms"] > 5000), line["body"]
            assert (answer["t"], answer.get("e")) == (recorded["body"]["t"], recorded["body"].get("e"))
            assert same_shape(answer["r"], recorded["body"]["r"]), line["body"]


@stretched
def test_the_four_status_fields_are_stale_for_a_moment_after_a_silent_loss() -> None:
    recorded = {_essence(row) for row in snapshot("14_frozen")["table_status"]}
    with three_nodes(heartbeat_timeout=1.0, status_lag=1.0) as (a, b, _c):
        b.freeze()
        assert _watch(a, recorded) == set()
        issues = a.run(SYSTEM.table("current_issues").coerce_to("array"))
        assert {issue["type"] for issue in issues} == {i["type"] for i in snapshot("14_frozen")["current_issues"]}


# changefeeds


def test_feeds_tell_what_the_recorded_ones_told() -> None:
    tables = ("server_status", "table_status", "current_issues")
    with three_nodes() as (a, b, _c), contextlib.ExitStack() as stack:
        feeds = {table: stack.enter_context(BareClient(a.port)) for table in tables}
        for table, client in feeds.items():
            client.login()
            term = [152, [[15, [[14, ["rethinkdb"]], table]]], {"include_initial": True}]
            first = client.ask(0, term)
            assert (first["t"], first["n"]) == (3, [1])
            assert len(first["r"]) == {"server_status": 3, "table_status": 2, "current_issues": 0}[table]
            client.query(0, [2])
        b.kill()
        gone = feeds["server_status"].answer(0)["r"][0]
        assert (gone["new_val"], gone["old_val"]["name"]) == (None, "node-b")
        change = feeds["table_status"].answer(0)["r"][0]
        assert "disconnected" in str(change["new_val"])
        assert "disconnected" not in str(change["old_val"])
        issue = feeds["current_issues"].answer(0)["r"][0]
        assert issue["old_val"] is None
        assert issue["new_val"]["type"] == "table_availability"


# a server that goes


FEED = [152, [[15, [[14, ["rethinkdb"]], "server_status"]]]]
ENDLESS = [43, [[38, [[173, [0, 1 << 40]], [69, [[2, [2]], [10, [2]]]]]]]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_server_that_goes_ends_feeds_and_queries_without_a_word(number: signal.Signals) -> None:
    with RethinkDB() as server:
        with BareClient(server.port) as feed, BareClient(server.port) as busy, BareClient(server.port) as idle:
            for client in (feed, busy, idle):
                client.login()
            feed.ask(1, FEED)
            feed.query(1, [2])
            busy.query(1, [1, ENDLESS, {}])
            os.kill(server.pid, number)
            assert feed.ended()
            assert busy.ended()
            assert idle.ended()
        wait_until(lambda: not server.running, 10, "the process has ended")
        with pytest.raises(ConnectionRefusedError):
            BareClient(server.port)


def test_rows_survive_a_kill() -> None:
    with RethinkDB() as server:
        server.prepare("jobs")
        server.kill()
        server.start()
        server.run(r.db("hc").table("jobs").wait(timeout=10))
        assert server.run(r.db("hc").table("jobs").count()) == 2


# TLS and the formulas


def test_recorded_proofs_check_against_the_formulas() -> None:
    """The handshake code of the tests is right: it accepts what the real server and driver exchanged."""
    said = [line for line in lines("04") if line["kind"] == "handshake"]
    bare = said[0]["body"]["authentication"][3:]
    challenge, final = said[2]["body"]["authentication"], said[3]["body"]["authentication"]
    fields = dict(part.split("=", 1) for part in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", b"hcpw", base64.b64decode(fields["s"]), int(fields["i"]))
    without_proof, _, proof = final.rpartition(",p=")
    text = f"{bare},{challenge},{without_proof}".encode()
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
    assert base64.b64decode(proof) == bytes(a ^ b for a, b in zip(key, signature, strict=True))
    signed = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), text, "sha256")
    assert said[4]["body"]["authentication"] == f"v={base64.b64encode(signed).decode()}"


def test_an_answer_cut_off_by_the_end_of_the_connection_is_noticed(single: RethinkDB) -> None:
    with BareClient(single.port) as client:
        client.login()
        client.query(1, [99])
        assert client.answer(1)["t"] == 16
        client.send(b"\1")
        client.socket.shutdown(1)
        with pytest.raises(EndedError):
            client.answer(2)
