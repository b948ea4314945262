"""What RethinkDB's answers mean: pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backendhealth.core.observation import MAX_SUBJECTS, Facts, Finding, SubjectFinding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import RethinkdbProbe
from backendhealth.probes import rethinkdb_rows as rows
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.rethinkdb_client import Refusal

DATABASES, TABLES = "db_list", "table_list"
SERVER_STATUS, TABLE_STATUS, CURRENT_ISSUES = "server_status", "table_status", "current_issues"
SYSTEM = (SERVER_STATUS, TABLE_STATUS, CURRENT_ISSUES)
_NAMED = 3  # subjects named in a message before "and N more"
# Which reason is told when several hold: the one that says most about what is broken.
_ORDER = [
    Reason.DATABASE_MISSING,
    Reason.TABLE_UNAVAILABLE,
    Reason.TABLE_MISSING,
    Reason.TIMEOUT,
    Reason.PERMISSION_DENIED,
    Reason.REPLICA_LOST,
    Reason.ISSUE_REPORTED,
    Reason.PROBE_SUCCEEDED,
]


@dataclass(slots=True)
class Answers:
    """What came back within `limit` seconds: values or Refusals by query, reads by table; what hung is not in there."""

    user: str
    limit: float
    asked: set[str] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)
    reads_asked: set[str] = field(default_factory=set)
    reads: dict[str, Any] = field(default_factory=dict)

    @property
    def hung(self) -> list[str]:
        """Names of the queries without an answer."""
        return sorted(self.asked - self.values.keys())

    def answered(self, name: str) -> bool:
        """Whether a query neither hung nor was refused."""
        return name in self.values and not isinstance(self.values[name], Refusal)

    def rows(self, name: str) -> Any:
        """The answer to a query; an empty list when there is none."""
        return self.values[name] if self.answered(name) else []


def judge(target: RethinkdbProbe, answers: Answers) -> Finding:
    """The finding for `answers`. Raises ProbeError for an answer that RethinkDB would not give."""
    _check_refusals(answers)
    databases = rows.names(answers.rows(DATABASES), DATABASES)
    if target.database and answers.answered(DATABASES) and target.database not in databases:
        return Finding(Reason.DATABASE_MISSING, clip(f"database {target.database} does not exist on the server"))
    table_rows = rows.tables(answers.rows(TABLE_STATUS))
    server_rows = rows.servers(answers.rows(SERVER_STATUS))
    scope = [row for row in table_rows if target.database in (None, row.db)]
    if target.tables:
        scope = [row for row in scope if row.name in target.tables]
    subjects = _tables(target, answers, scope)
    subjects += _servers(server_rows, table_rows)
    subjects += _issues(answers, {row.full_name for row in scope})
    return _conclude(answers, subjects, server_rows, scope)


def _check_refusals(answers: Answers) -> None:
    for name in SYSTEM:
        refusal = answers.values.get(name)
        if isinstance(refusal, Refusal) and not refusal.permission:
            raise ProbeError(Reason.PROTOCOL_ERROR, f"the server refused to read {name}: {refusal.text}")


# tables


def _tables(target: RethinkdbProbe, answers: Answers, scope: Sequence[rows.TableRow]) -> list[SubjectFinding]:
    found = [_table(row, answers) for row in scope]
    known = {row.name for row in scope} | set(rows.names(answers.rows(TABLES), TABLES))
    if answers.answered(TABLES) or answers.answered(TABLE_STATUS):
        found += [_missing(target, name) for name in sorted(set(target.tables) - known)]
    judged = {row.full_name for row in scope}
    for name in sorted(answers.reads_asked - judged):  # table_status said nothing about them
        problem = _read_problem(name, answers)
        if problem:
            found.append(SubjectFinding(f"table/{name}", Reason.TABLE_UNAVAILABLE, clip(f"{name}: {problem}")))
    return found


def _missing(target: RethinkdbProbe, name: str) -> SubjectFinding:
    full = f"{target.database}.{name}"
    return SubjectFinding(f"table/{full}", Reason.TABLE_MISSING, f"{full}: the table does not exist")


def _table(row: rows.TableRow, answers: Answers) -> SubjectFinding:
    reason, message = _table_state(row, _read_problem(row.full_name, answers))
    return SubjectFinding(f"table/{row.full_name}", reason, clip(f"{row.full_name}: {message}"), _table_facts(row))


def _read_problem(name: str, answers: Answers) -> str | None:
    """What was wrong with the real read; None when it worked or is not allowed."""
    if name not in answers.reads_asked:
        return None
    if name not in answers.reads:
        return f"a read got no answer within {answers.limit:g} s"
    read = answers.reads[name]
    if not isinstance(read, Refusal) or read.permission or read.text.endswith("does not exist."):
        return None  # dropped between two answers: the next attempt tells
    return f"a read failed: {read.text}"


def _table_state(row: rows.TableRow, read_problem: str | None) -> tuple[Reason, str]:
    if row.error:
        return Reason.TABLE_UNAVAILABLE, f"its state is unknown to the server: {row.error}"
    reads, writes = row.flags.ready_for_reads and row.served, row.flags.ready_for_writes and row.served
    if not writes:
        if reads:
            what = "can be read, but not written"
        elif row.flags.ready_for_outdated_reads:
            what = "no writes and no up-to-date reads, outdated reads only"
        else:
            what = "neither reads nor writes"
        return Reason.TABLE_UNAVAILABLE, f"{what}: {_why(row)}"
    if read_problem:
        return Reason.TABLE_UNAVAILABLE, read_problem
    away = row.servers("disconnected")
    if away:
        return Reason.REPLICA_LOST, f"serves reads and writes, but its replica on {', '.join(away)} is not reachable"
    behind = row.servers("ready", other=True)
    if behind or not row.flags.all_replicas_ready:
        return Reason.REPLICA_LOST, f"serves reads and writes, but not all replicas are ready: {_states(row)}"
    return Reason.PROBE_SUCCEEDED, "ready for reads and writes, all replicas ready"


def _why(row: rows.TableRow) -> str:
    away, everyone = row.servers("disconnected"), row.servers(other=True)
    reasons = []
    if away:
        reasons.append(f"{len(away)} of {len(everyone)} servers with a replica not reachable: {', '.join(away)}")
    if row.raft_leader is None and 2 * len(away) >= len(everyone):
        reasons.append("no majority of its replicas")
    elif not all(shard.primary_replicas for shard in row.shards or ()):
        reasons.append("no primary now (election or restart under way)")
    elif not away or not row.served:
        reasons.append(f"not ready yet: {_states(row)}")
    return "; ".join(reasons) or "the server does not say why"


def _states(row: rows.TableRow) -> str:
    unready = sorted({(r.server, r.state) for s in row.shards or () for r in s.replicas if r.state != "ready"})
    return ", ".join(f"{server} {state}" for server, state in unready) or "its status says so"


def _table_facts(row: rows.TableRow) -> Facts:
    shards = row.shards or []
    replicas = [replica for shard in shards for replica in shard.replicas]
    return {
        "primary": ",".join(sorted({primary for shard in shards for primary in shard.primary_replicas})),
        "raftLeader": row.raft_leader or "",
        "shards": len(shards),
        "replicas": len(replicas),
        "replicasReady": sum(replica.state == "ready" for replica in replicas),
    }


# servers and issues


def _servers(here: Sequence[rows.ServerRow], tables: Sequence[rows.TableRow]) -> list[SubjectFinding]:
    away: dict[str, int] = {}
    for row in tables:
        for server in row.servers("disconnected"):
            away[server] = away.get(server, 0) + 1
    found = [
        SubjectFinding(f"server/{row.name}", Reason.PROBE_SUCCEEDED, "connected", {"version": _version(row)})
        for row in here
        if row.name not in away
    ]
    for server, count in sorted(away.items()):
        message = f"server {server} is not reachable by the others; it holds replicas of {_count(count, 'table')}"
        found.append(SubjectFinding(f"server/{server}", Reason.REPLICA_LOST, message))
    return found


def _issues(answers: Answers, in_scope: set[str]) -> list[SubjectFinding]:
    return [_issue(row, in_scope) for row in rows.issues(answers.rows(CURRENT_ISSUES))]


def _issue(row: rows.IssueRow, in_scope: set[str]) -> SubjectFinding:
    table = f"{row.info.get('db')}.{row.info.get('table')}"
    about_table = row.type == "table_availability"
    reason = Reason.ISSUE_REPORTED
    if about_table and table in in_scope:
        reason = Reason.TABLE_UNAVAILABLE if row.critical else Reason.REPLICA_LOST
    subject = f"issue/{row.type}/{table if about_table else row.id}"
    return SubjectFinding(subject, reason, clip(row.description), {"type": row.type, "critical": row.critical})


# the whole


def _conclude(
    answers: Answers,
    subjects: Sequence[SubjectFinding],
    servers: Sequence[rows.ServerRow],
    tables: Sequence[rows.TableRow],
) -> Finding:
    candidates = [(subject.reason, subject.message) for subject in subjects]
    denied = _denied(answers)
    hung = _hung(answers)
    candidates += [(Reason.PERMISSION_DENIED, denied)] if denied else []
    candidates += [(Reason.TIMEOUT, hung)] if hung else []
    where = f"{_count(len(servers), 'server')}, version {', '.join(_versions(servers))}"
    healthy = f"{_count(len(tables), 'table')} ready on {where}"
    reason = min((reason for reason, _ in candidates), key=_severity, default=Reason.PROBE_SUCCEEDED)
    messages = [message for own, message in candidates if own is reason]
    message = healthy if reason is Reason.PROBE_SUCCEEDED else _listed(_of_tables(reason, subjects) or messages)
    if hung and reason is not Reason.TIMEOUT:
        message = f"{message}; {hung}"
    return Finding(reason, clip(message), _bounded(subjects), _facts(servers, tables))


def _severity(reason: Reason) -> tuple[int, int]:
    return -reason.verdict.rank, _ORDER.index(reason)


def _of_tables(reason: Reason, subjects: Sequence[SubjectFinding]) -> list[str]:
    """What is wrong with the tables that have `reason`, each text once; issues and servers would only repeat it."""
    names: dict[str, list[str]] = {}
    for subject in subjects:
        kind, _, name = subject.subject.partition("/")
        if subject.reason is reason and kind == "table":
            names.setdefault(subject.message.removeprefix(f"{name}: "), []).append(name)
    return [f"{_listed(tables, ', ')}: {text}" for text, tables in names.items()]


def _listed(items: Sequence[str], separator: str = "; ") -> str:
    more = len(items) - _NAMED
    return separator.join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _denied(answers: Answers) -> str | None:
    refused = [name for name in SYSTEM if isinstance(answers.values.get(name), Refusal)]
    if not refused:
        return None
    grant = f'r.db("rethinkdb").grant("{answers.user}", {{read: true}})'
    return f"user {answers.user} may not read {', '.join(refused)} of database rethinkdb: this grant suffices: {grant}"


def _hung(answers: Answers) -> str | None:
    hung = answers.hung
    if not hung:
        return None
    told = f"{', '.join(hung)} got no answer within {answers.limit:g} s"
    others = sorted(name for name in answers.values if name not in hung)
    if TABLE_STATUS not in hung and CURRENT_ISSUES not in hung:
        return f"{told}, while {', '.join(others)} did"
    return (
        f"{told}, while {', '.join(others)} did: a server of the cluster seems frozen "
        "(the others give it up after about 14 s); compare the servers' processes and logs"
    )


def _bounded(subjects: Sequence[SubjectFinding]) -> tuple[SubjectFinding, ...]:
    """The worst MAX_SUBJECTS of them, by name."""
    worst = sorted(subjects, key=lambda subject: (_severity(subject.reason), subject.subject))[:MAX_SUBJECTS]
    return tuple(sorted(worst, key=lambda subject: subject.subject))


def _facts(servers: Sequence[rows.ServerRow], tables: Sequence[rows.TableRow]) -> Facts:
    facts: dict[str, str | int | float | bool] = {"tables": len(tables)} if tables else {}
    if servers:
        facts |= {"version": ",".join(_versions(servers)), "servers": len(servers)}
        facts |= {"serverNames": ",".join(row.name for row in servers)}
    return facts


def _version(row: rows.ServerRow) -> str:
    found = re.search(r"\d+(\.\d+)+", row.process.version)
    return found[0] if found else ""


def _versions(servers: Sequence[rows.ServerRow]) -> list[str]:
    return sorted({_version(row) for row in servers})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
