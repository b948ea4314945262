"""What the reports of etcd's endpoints mean together. Pure: the same reports, the same finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from backendhealth.core.observation import MAX_SUBJECTS, Fact, Finding, SubjectFinding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict

_ALARMS = {1: Reason.ALARM_NO_SPACE, 2: Reason.ALARM_CORRUPT}  # etcd's numbers for NOSPACE and CORRUPT
_ORDER = (Reason.QUORUM_LOST, Reason.ALARM_CORRUPT, Reason.ALARM_NO_SPACE, Reason.MEMBER_DOWN, Reason.QUOTA_NEARLY_FULL)


@dataclass(frozen=True, slots=True)
class Status:
    """One member's answer about itself; sizes in bytes, ids as etcd numbers them, `leader` 0 without one.

    A negative `quota` means that there is none.
    """

    member: int
    cluster: int
    version: str
    leader: int
    learner: bool
    db_size: int
    quota: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """An active alarm; `member` 0 where etcd can't tell whose."""

    member: int
    kind: int


@dataclass(frozen=True, slots=True)
class Member:
    """A row of the member list; the name is empty until the member has started for the first time."""

    id: int
    name: str
    client_urls: tuple[str, ...]
    peer_urls: tuple[str, ...]
    learner: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one endpoint; `quorum` when a read through the quorum was answered there."""

    address: str
    reason: Reason
    message: str
    contact: bool = True
    status: Status | None = None
    quorum: bool = False
    key_denied: bool = False
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    """One thing that is wrong."""

    reason: Reason
    message: str


class Cluster:
    """All that one attempt knows of the cluster: a report for each endpoint, the member list, whose endpoint is whose.

    `known` maps an endpoint's address to the member that answered there the last time.
    """

    def __init__(
        self, reports: Sequence[Report], members: Sequence[Member], known: dict[str, int], warning_percent: int
    ) -> None:
        self._reports = _of_one_cluster(reports)
        self._members = {member.id: member for member in members}
        self._known = known
        self._warning_percent = warning_percent

    def finding(self) -> Finding:
        """The one finding: the worst that is wrong, all of the endpoints and members as subjects."""
        claims = self._claims()
        worst = max(claims, key=_severity, default=None)
        subjects = [*map(self._endpoint, self._reports), *map(self._member, self._members.values())]
        return Finding(
            worst.reason if worst else Reason.PROBE_SUCCEEDED,
            clip(worst.message if worst else self._proof()),
            tuple(sorted(subjects, key=lambda found: found.subject)[:MAX_SUBJECTS]),
            self._facts(),
            contact=any(report.contact for report in self._reports),
        )

    @property
    def _statuses(self) -> list[Status]:
        return [report.status for report in self._reports if report.status is not None]

    def _claims(self) -> list[_Claim]:
        failed = [report for report in self._reports if report.reason is not Reason.PROBE_SUCCEEDED]
        serving = [r for r in self._reports if r.quorum and (r.reason is Reason.PROBE_SUCCEEDED or _is_ours(r))]
        claims = [*self._alarm_claims(), *self._quota_claims()]
        if not serving and failed:
            return [*claims, self._outage(failed)]
        if not serving:
            told = f"only learners were asked ({', '.join(report.address for report in self._reports)})"
            return [*claims, _Claim(Reason.PERMISSION_DENIED, f"{told}, which serve no reads: name a voting member")]
        claims += [_Claim(report.reason, report.message) for report in failed if _is_ours(report)]
        down = [self._who(report.address, report.message) for report in failed if not _is_ours(report)]
        down += [
            f"{self._name(m.id)} ({m.peer_urls[0] if m.peer_urls else ''}): added, but it has never started"
            for m in self._members.values()
            if not m.name
        ]
        if down:
            claims.append(_Claim(Reason.MEMBER_DOWN, self._told_down(down)))
        return claims

    def _told_down(self, down: list[str]) -> str:
        total = max(len(self._members), len(self._reports))
        return f"{len(down)} of {total} members down, though the quorum holds: {'; '.join(down)}"

    def _outage(self, failed: list[Report]) -> _Claim:
        """What to say when no endpoint has proved the quorum."""
        alone = [report for report in failed if report.reason is Reason.QUORUM_LOST]
        told = "; ".join(dict.fromkeys(self._who(report.address, report.message) for report in failed))
        if alone:
            return _Claim(Reason.QUORUM_LOST, f"no quorum, so no writes and no up-to-date reads: {told}")
        broken = [report for report in failed if not _is_ours(report)]
        judged = broken if 2 * len(broken) > len(self._reports) else [r for r in failed if _is_ours(r)] or broken
        return _Claim(judged[0].reason, told)

    def _alarm_claims(self) -> Iterable[_Claim]:
        for alarm in sorted({alarm for report in self._reports for alarm in report.alarms}, key=lambda a: a.member):
            reason = _ALARMS.get(alarm.kind)
            name = self._name(alarm.member) if alarm.member else "a member that etcd does not name"
            if reason is Reason.ALARM_NO_SPACE:
                told = f"etcd refuses writes: {name} raised the alarm NOSPACE, its database has reached the quota"
                yield _Claim(reason, f"{told}; compact, defragment, then disarm the alarm")
            elif reason is Reason.ALARM_CORRUPT:
                yield _Claim(reason, f"the alarm CORRUPT is on: the data of {name} differs from its peers'")

    def _quota_claims(self) -> Iterable[_Claim]:
        for status in self._statuses:
            used = _used_percent(status)
            if used >= self._warning_percent:
                sizes = f"{status.db_size >> 20} of {status.quota >> 20} MiB"
                told = f"the database of {self._name(status.member)} uses {used} % of its quota ({sizes})"
                yield _Claim(Reason.QUOTA_NEARLY_FULL, f"{told}; when it is full all writes stop")

    def _endpoint(self, report: Report) -> SubjectFinding:
        facts: dict[str, Fact] = {}
        if report.status is not None:
            status = report.status
            role = "learner" if status.learner else "leader" if status.leader == status.member else "follower"
            facts = {"member": self._name(status.member), "memberId": f"{status.member:x}", "role": role}
            facts["version"] = status.version
        message = report.message or ("a learner: no reads through it" if facts.get("role") == "learner" else "serves")
        return SubjectFinding(f"endpoint/{report.address}", report.reason, clip(message), facts)

    def _member(self, member: Member) -> SubjectFinding:
        reason, message = Reason.PROBE_SUCCEEDED, "part of the cluster"
        down = [report for report in self._reports if report.reason is not Reason.PROBE_SUCCEEDED]
        for report in down:
            if self._id_at(report.address) == member.id and not _is_ours(report):
                reason = Reason.QUORUM_LOST if report.reason is Reason.QUORUM_LOST else Reason.MEMBER_DOWN
                message = report.message
        if not member.name:
            reason, message = Reason.MEMBER_DOWN, "added, but it has never started"
        for report in self._reports:
            for alarm in report.alarms:
                if alarm.member == member.id and alarm.kind in _ALARMS:
                    reason, message = _ALARMS[alarm.kind], "raised the alarm"
        facts: dict[str, Fact] = {"memberId": f"{member.id:x}", "learner": member.learner}
        return SubjectFinding(f"member/{self._name(member.id)}", reason, clip(message), facts)

    def _facts(self) -> dict[str, Fact]:
        statuses = self._statuses
        facts: dict[str, Fact] = {}
        if statuses:
            versions = sorted({status.version for status in statuses})
            facts["version"] = ", ".join(versions)
            facts["versionSkew"] = len(versions) > 1
            facts["clusterId"] = f"{statuses[0].cluster:x}"
            facts |= {"leader": self._leader()} if self._leader() else {}
            facts["dbSizeBytes"] = max(status.db_size for status in statuses)
            facts["quotaUsedPercent"] = max(map(_used_percent, statuses))
        if self._members:
            facts["members"] = len(self._members)
            facts["learners"] = sum(member.learner for member in self._members.values())
            facts["memberIds"] = clip(", ".join(sorted(f"{self._name(id_)}={id_:x}" for id_ in self._members)))
        if any(report.key_denied for report in self._reports):
            facts["keyDenied"] = True
        return facts

    def _proof(self) -> str:
        members = f", {len(self._members)} members" if len(self._members) > 1 else ""
        denied = "; the key is denied to the probe's user" if any(r.key_denied for r in self._reports) else ""
        return f"the quorum answers: leader {self._leader()}{members}{denied}"

    def _leader(self) -> str:
        leaders = [status.leader for status in self._statuses if status.leader]
        return self._name(leaders[0]) if leaders else ""

    def _name(self, member: int) -> str:
        found = self._members.get(member)
        return found.name if found and found.name else f"{member:x}"

    def _who(self, address: str, message: str) -> str:
        """`message` about an endpoint, with the name of the member behind it, where that is known."""
        member = self._id_at(address)
        about = message if address in message else f"{address}: {message}"
        return f"{self._name(member)} ({about})" if member else about

    def _id_at(self, address: str) -> int | None:
        """The member behind an endpoint: the one that answered there last, or the one that advertises it."""
        if address in self._known:
            return self._known[address]
        owners = [m.id for m in self._members.values() if any(urlsplit(url).netloc == address for url in m.client_urls)]
        return owners[0] if len(owners) == 1 else None


def _of_one_cluster(reports: Sequence[Report]) -> list[Report]:
    """The reports, those from members of a second cluster turned into failures: they prove nothing for the first."""
    with_status = sorted((r for r in reports if r.status is not None), key=lambda report: not report.quorum)
    home = with_status[0].status.cluster if with_status and with_status[0].status else None
    told = "answers for another cluster than the other endpoints"
    return [
        report
        if report.status is None or report.status.cluster == home
        else Report(report.address, Reason.PROTOCOL_ERROR, f"{report.address}: {told} (id {report.status.cluster:x})")
        for report in reports
    ]


def _is_ours(report: Report) -> bool:
    """Whether the failure tells nothing about the member: our own side, or its refusal to talk to us."""
    return report.reason.verdict is Verdict.UNKNOWN


def _severity(claim: _Claim) -> tuple[int, int]:
    order = len(_ORDER) - _ORDER.index(claim.reason) if claim.reason in _ORDER else 0
    return claim.reason.verdict.rank, order


def _used_percent(status: Status) -> int:
    return 100 * status.db_size // status.quota if status.quota > 0 else 0
