"""What recorded documents mean, without a server: the judging is pure."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.observation import MAX_SUBJECTS, Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import RethinkdbProbe
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.rethinkdb_client import Refusal
from backendhealth.probes.rethinkdb_judge import Answers, judge
from tests.probes.rethinkdb.helpers import subject
from tests.probes.rethinkdb.recordings import snapshot


def _answers(documents: dict[str, Any], reads: dict[str, Any] | None = None) -> Answers:
    values = {name: documents[name] for name in ("server_status", "table_status", "current_issues")}
    tables = sorted(row["name"] for row in documents["table_status"])
    values |= {"db_list": ["hc", "rethinkdb", "test"], "table_list": tables}
    read = {f"hc.{name}": 1 for name in tables} if reads is None else reads
    return Answers("hc", 4.5, {*values}, values, {f"hc.{name}" for name in tables}, read)


def _judge(documents: dict[str, Any], *tables: str, reads: dict[str, Any] | None = None) -> Finding:
    return judge(RethinkdbProbe(host="rethinkdb", database="hc", tables=list(tables)), _answers(documents, reads))


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("01_single_healthy", Reason.PROBE_SUCCEEDED, "1 table ready on 1 server, version 2.4.4"),
        ("05_three_nodes_healthy", Reason.PROBE_SUCCEEDED, "2 tables ready on 3 servers, version 2.4.4"),
        ("13_recovered", Reason.PROBE_SUCCEEDED, "2 tables ready on 3 servers, version 2.4.4"),
        ("06_one_node_down", Reason.REPLICA_LOST, "hc.jobs, hc.orders: serves reads and writes, but"),
        ("06_right_after_the_kill", Reason.TABLE_UNAVAILABLE, "hc.orders: no writes and no up-to-date reads"),
        ("07_no_majority", Reason.TABLE_UNAVAILABLE, "hc.jobs, hc.orders: no writes and no up-to-date reads"),
        ("07_right_after_the_kill", Reason.TABLE_UNAVAILABLE, "hc.jobs, hc.orders: no writes and no up-to-date reads"),
        ("09_just_restarted", Reason.TABLE_UNAVAILABLE, "hc.jobs: no writes and no up-to-date reads"),
        ("14_frozen", Reason.TABLE_UNAVAILABLE, "hc.orders: "),
    ],
)
def test_recorded_states(name: str, reason: Reason, told: str) -> None:
    finding = _judge(snapshot(name))
    assert finding.reason is reason
    assert finding.message.startswith(told)


def test_the_order_of_rows_does_not_matter() -> None:
    documents = snapshot("06_one_node_down")
    backwards = {name: list(reversed(rows)) for name, rows in documents.items()}
    assert _judge(documents) == _judge(backwards)


def test_a_table_that_is_not_asked_for_does_not_count() -> None:
    finding = _judge(snapshot("06_right_after_the_kill"), "jobs", reads={"hc.jobs": 1, "hc.orders": 1})
    assert finding.reason is Reason.REPLICA_LOST
    assert finding.message.startswith("hc.jobs: ")
    assert subject(finding, "issue/table_availability/hc.orders").reason is Reason.ISSUE_REPORTED


@pytest.mark.parametrize(
    ("kind", "critical"),
    [("log_write_error", False), ("outdated_index", False), ("memory_error", True), ("db_name_collision", True)],
)
def test_every_issue_is_reported(kind: str, critical: bool) -> None:
    documents = snapshot("01_single_healthy")
    text = "Something is not as it should be."
    issue = {"id": "4711", "type": kind, "critical": critical, "description": text, "info": {}}
    finding = _judge({**documents, "current_issues": [issue]})
    assert finding.reason is Reason.ISSUE_REPORTED
    assert finding.message == text
    found = subject(finding, f"issue/{kind}/4711")
    assert found.facts == {"type": kind, "critical": critical}


def test_a_read_that_fails_although_the_status_is_good() -> None:
    text = 'Cannot perform read: primary replica for shard ["", +inf) not available'
    finding = _judge(snapshot("01_single_healthy"), reads={"hc.jobs": Refusal(text)})
    assert finding.reason is Reason.TABLE_UNAVAILABLE
    assert finding.message == f"hc.jobs: a read failed: {text}"


def test_a_read_that_hangs_although_the_status_is_good() -> None:
    finding = _judge(snapshot("01_single_healthy"), reads={})
    assert finding.reason is Reason.TABLE_UNAVAILABLE
    assert finding.message == "hc.jobs: a read got no answer within 4.5 s"


def test_a_read_that_hangs_while_table_status_hangs() -> None:
    answers = _answers(snapshot("05_three_nodes_healthy"), {"hc.jobs": 1})
    del answers.values["table_status"]
    finding = judge(RethinkdbProbe(host="rethinkdb", database="hc"), answers)
    assert finding.reason is Reason.TABLE_UNAVAILABLE
    assert finding.message.startswith("hc.orders: a read got no answer within 4.5 s; table_status got no answer")


def test_a_replica_that_is_there_but_not_ready() -> None:
    documents = snapshot("05_three_nodes_healthy")
    documents["table_status"][0]["shards"][0]["replicas"][0]["state"] = "backfilling"
    documents["table_status"][0]["status"]["all_replicas_ready"] = False
    server = documents["table_status"][0]["shards"][0]["replicas"][0]["server"]
    finding = _judge(documents)
    assert finding.reason is Reason.REPLICA_LOST
    assert finding.message.endswith(f"not all replicas are ready: {server} backfilling")


def test_a_read_that_is_not_allowed_does_not_count() -> None:
    denied = Refusal("User `hc` does not have the required `read` permission.", permission=True)
    assert _judge(snapshot("01_single_healthy"), reads={"hc.jobs": denied}).reason is Reason.PROBE_SUCCEEDED


def test_one_system_table_that_may_not_be_read() -> None:
    answers = _answers(snapshot("01_single_healthy"))
    answers.values["current_issues"] = Refusal("no", permission=True)
    finding = judge(RethinkdbProbe(host="rethinkdb", database="hc"), answers)
    assert finding.reason is Reason.PERMISSION_DENIED
    assert finding.message.startswith("user hc may not read current_issues of database rethinkdb")


def test_what_is_down_beats_what_is_not_allowed_beats_what_is_lost() -> None:
    answers = _answers(snapshot("06_one_node_down"))
    answers.values["current_issues"] = Refusal("no", permission=True)
    probe = RethinkdbProbe(host="rethinkdb", database="hc")
    assert judge(probe, answers).verdict is Verdict.UNKNOWN
    answers.reads.clear()
    assert judge(probe, answers).reason is Reason.TABLE_UNAVAILABLE


@pytest.mark.parametrize(
    ("hung", "told"),
    [
        (["table_status"], "table_status got no answer within 4.5 s, while current_issues, db_list"),
        (["server_status"], "server_status got no answer within 4.5 s, while current_issues, db_list"),
        (["current_issues", "table_status"], "a server of the cluster seems frozen"),
    ],
)
def test_what_hung_is_named(hung: list[str], told: str) -> None:
    answers = _answers(snapshot("05_three_nodes_healthy"))
    for name in hung:
        del answers.values[name]
    finding = judge(RethinkdbProbe(host="rethinkdb", database="hc"), answers)
    assert finding.reason is Reason.TIMEOUT
    assert told in finding.message


def test_a_table_whose_state_is_an_error() -> None:
    documents = snapshot("01_single_healthy")
    row = {"db": "hc", "name": "jobs", "error": "None of the replicas for this table are accessible."}
    finding = _judge({**documents, "table_status": [row]})
    assert finding.reason is Reason.TABLE_UNAVAILABLE
    assert "None of the replicas for this table are accessible." in finding.message


def test_one_shard_without_a_primary_makes_the_table_unavailable() -> None:
    documents = snapshot("05_three_nodes_healthy")
    good = documents["table_status"][0]["shards"][0]
    bad = {"primary_replicas": [], "replicas": [{"server": "node-a", "state": "waiting_for_primary"}]}
    documents["table_status"][0]["shards"] = [good, bad]
    finding = _judge(documents)
    assert finding.reason is Reason.TABLE_UNAVAILABLE
    assert "no primary now" in finding.message


def test_subjects_are_bounded_and_the_worst_are_kept() -> None:
    documents = snapshot("01_single_healthy")
    row = documents["table_status"][0]
    bad = {**row, "name": "zzz", "shards": [{"primary_replicas": [], "replicas": []}]}
    rows = [{**row, "name": f"table{number:03}"} for number in range(200)]
    reads = {f"hc.{table['name']}": 1 for table in (*rows, bad)}
    finding = _judge({**documents, "table_status": [*rows, bad]}, reads=reads)
    assert len(finding.subjects) == MAX_SUBJECTS
    assert subject(finding, "table/hc.zzz").reason is Reason.TABLE_UNAVAILABLE
    assert [s.subject for s in finding.subjects] == sorted(s.subject for s in finding.subjects)


def test_many_tables_with_the_same_trouble_make_a_short_message() -> None:
    documents = snapshot("07_no_majority")
    row = documents["table_status"][0]
    rows = [{**row, "name": f"table{number:03}"} for number in range(50)]
    reads = {f"hc.{table['name']}": 1 for table in rows}
    finding = _judge({**documents, "table_status": rows, "current_issues": []}, reads=reads)
    assert finding.message.startswith("hc.table000, hc.table001, hc.table002 and 47 more: no writes and no up-to-date")
    assert len(finding.message) < 300


def test_a_refusal_that_is_not_about_grants_is_not_rethinkdbs() -> None:
    answers = _answers(snapshot("01_single_healthy"))
    answers.values["table_status"] = Refusal("Unrecognized TermType: 15.")
    with pytest.raises(ProbeError) as caught:
        judge(RethinkdbProbe(host="rethinkdb", database="hc"), answers)
    assert caught.value.reason is Reason.PROTOCOL_ERROR
    assert "refused to read table_status" in caught.value.message
