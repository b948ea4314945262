"""A Redis that Sentinels watch: the Sentinels, the primary they name, and its replicas."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import RedisSentinel
from backendhealth.core.verdict import Verdict
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.redis_link import Access, ErrorReply, Link, Reply, split_address
from backendhealth.probes.redis_nodes import (
    MAX_NODES,
    Address,
    Links,
    Visit,
    as_subject,
    of_a_spare,
    summed_up,
    visit_all,
)
from backendhealth.probes.redis_server import Problem, Role, examine, refusal
from backendhealth.probes.trace import Trace

SENTINELS_SHARE = 0.4  # of the time-out; the servers get SERVERS_SHARE, the rest is for reporting
SERVERS_SHARE = 0.5
UNREACHED = {
    Reason.CONNECTION_REFUSED,
    Reason.CONNECTION_RESET,
    Reason.HOST_UNREACHABLE,
    Reason.TIMEOUT,
    Reason.DNS_NAME_NOT_FOUND,
    Reason.READ_ONLY_REPLICA,
}
"""What makes the primary that Sentinels name no primary at all."""


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What one Sentinel knows; no primary when it has none of that name."""

    primary: Address | None
    replicas: tuple[Address, ...] = ()
    flags: frozenset[str] = frozenset()
    others: int = 0
    quorum: int = 0


class SentinelExchange:
    """All Sentinels at once, then the primary and the replicas that most of them name."""

    def __init__(  # noqa: PLR0913
        self,
        target: RedisSentinel,
        to_servers: Access,
        to_sentinels: Access,
        *,
        role: Role,
        write_check: bool,
        expiry_warning: float,
    ) -> None:
        self._name = target.master_name
        self._endpoints = [split_address(endpoint) for endpoint in target.endpoints]
        self._sentinels = Links(to_sentinels)
        self._servers = Links(to_servers)
        self._role = role
        self._write_check = write_check
        self._expiry_warning = expiry_warning

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Ask the Sentinels, then the servers."""
        sentinels = [self._sentinels[endpoint] for endpoint in dict.fromkeys(self._endpoints)]
        asked = await visit_all(sentinels, self._ask_sentinel, timeout * SENTINELS_SHARE, trace)
        subjects = [as_subject("endpoint", visit.link.address, visit.finding) for visit in asked]
        views = [visit.answer for visit in asked if visit.answer is not None]
        primary = self._agreed(views, asked, subjects, trace)
        view = next(view for view in views if view.primary == primary)
        replicas = [address for address in view.replicas if address != primary][: MAX_NODES - len(asked) - 1]
        self._servers.keep_only([primary, *replicas])
        servers = await visit_all(
            [self._servers[address] for address in (primary, *replicas)],
            lambda link, own: self._ask_server(link, own, is_primary=(link.host, link.port) == primary),
            timeout * SERVERS_SHARE,
            trace,
        )
        subjects += [as_subject("node", visit.link.address, visit.finding) for visit in servers]
        problems = self._server_problems(servers[0], servers[1:], view) + _sentinel_problems(asked, primary)
        facts = self._facts(servers, view, len(views))
        proof = f"{len(views)} Sentinels name {facts['primary']}, a {servers[0].finding.message}"
        finding = summed_up(problems, proof, subjects, facts, trace)
        ends = [end for end in (self._servers.not_after(), self._sentinels.not_after()) if end]
        return check_expiry(finding, min(ends, default=None), self._expiry_warning)

    async def close(self) -> None:
        """Close all kept connections."""
        self._sentinels.drop()
        self._servers.drop()

    async def _ask_sentinel(self, link: Link, trace: Trace) -> tuple[Finding, View]:
        address, primary, replicas = await link.ask(
            trace,
            ("sentinel", ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name]),
            ("sentinel", ["SENTINEL", "MASTER", self._name]),
            ("sentinel", ["SENTINEL", "REPLICAS", self._name]),
        )
        if isinstance(address, ErrorReply):
            raise _not_a_sentinel(address, link.address)
        named = _address(address, link.address)
        if named is None:
            message = f"{link.address} knows no primary named {self._name}"
            return Finding(Reason.NO_PRIMARY, message), View(None)
        fields = _fields(primary)
        view = View(
            named,
            tuple(filter(None, (_replica(replica) for replica in replicas)) if isinstance(replicas, list) else ()),
            frozenset(fields.get("flags", "").split(",")),
            _number(fields, "num-other-sentinels"),
            _number(fields, "quorum"),
        )
        return Finding(Reason.PROBE_SUCCEEDED, f"names {host_port(*named)} as the primary"), view

    async def _ask_server(self, link: Link, trace: Trace, *, is_primary: bool) -> tuple[Finding, bool]:
        if is_primary:
            return await examine(link, trace, "primary", write=self._write_check), True
        return await examine(link, trace, "replica"), True

    def _agreed(
        self, views: Sequence[View], asked: Sequence[Visit[View]], subjects: list[SubjectFinding], trace: Trace
    ) -> Address:
        """The primary that most Sentinels name. Raises ProbeError when none does."""
        named = Counter(view.primary for view in views if view.primary is not None)
        if named:
            return named.most_common(1)[0][0]
        if views:
            problem = (Reason.NO_PRIMARY, f"the Sentinels know no primary named {self._name}")
            finding = summed_up([problem], "", subjects, {}, trace)
        else:
            problems = [(visit.finding.reason, _told(visit)) for visit in asked]
            finding = summed_up(problems, "", subjects, {}, trace)
            finding = dataclasses.replace(finding, message=f"no Sentinel answers: {finding.message}")
        raise ProbeError(finding.reason, finding.message, finding.subjects)

    def _server_problems(self, primary: Visit[bool], replicas: Sequence[Visit[bool]], view: View) -> list[Problem]:
        wanted = {"primary": [primary], "replica": list(replicas), "any": [primary, *replicas]}[self._role]
        problems: list[Problem] = []
        if not wanted:
            problems.append((Reason.NOT_ENOUGH_REPLICAS, f"the Sentinels know no replica of {self._name}"))
        broken = wanted and all(visit.finding.verdict.rank > Verdict.DEGRADED.rank for visit in wanted)
        for visit in (primary, *replicas):
            if visit.finding.reason is Reason.PROBE_SUCCEEDED:
                continue
            if broken and visit in wanted:
                problems.append(self._primary_problem(visit, view) if visit is primary else _as_is(visit))
            else:
                problems.append((of_a_spare(visit.finding), _told(visit)))
        return problems

    def _primary_problem(self, visit: Visit[bool], view: View) -> Problem:
        if visit.finding.reason not in UNREACHED:
            return _as_is(visit)
        doing = ""
        if view.flags & {"s_down", "o_down"}:
            doing = "; the Sentinels call it down"
        if "failover_in_progress" in view.flags:
            doing = "; a failover is under way"
        named = f"the Sentinels name {visit.link.address} as the primary of {self._name}"
        return Reason.NO_PRIMARY, f"{named}, but it is none: {visit.finding.message}{doing}"

    def _facts(self, servers: Sequence[Visit[bool]], view: View, answering: int) -> dict[str, str | int | float | bool]:
        return {
            **servers[0].finding.facts,
            "primary": servers[0].link.address,
            "sentinels": answering,
            "knownSentinels": view.others + 1,
            "quorum": view.quorum,
            "replicas": len(servers) - 1,
        }


def _sentinel_problems(asked: Sequence[Visit[View]], primary: Address) -> list[Problem]:
    problems: list[Problem] = []
    for visit in asked:
        if visit.finding.reason is not Reason.PROBE_SUCCEEDED:
            problems.append((of_a_spare(visit.finding), f"Sentinel {_told(visit)}"))
        elif visit.answer and visit.answer.primary and visit.answer.primary != primary:
            other = host_port(*visit.answer.primary)
            problems.append(
                (Reason.MEMBER_DOWN, f"Sentinel {visit.link.address} names another primary than most: {other}")
            )
    return problems


def _as_is(visit: Visit[bool]) -> Problem:
    return visit.finding.reason, _told(visit)


def _told(visit: Visit[bool] | Visit[View]) -> str:
    message = visit.finding.message
    return message if visit.link.address in message else f"{visit.link.address}: {message}"


def _not_a_sentinel(error: ErrorReply, address: str) -> ProbeError:
    if error.code == "ERR" and error.text.startswith("unknown command"):
        return ProbeError(Reason.PROTOCOL_ERROR, f"{address} is no Sentinel: probe it by `url`")
    return ProbeError(*refusal(error, "SENTINEL", address))


def _address(reply: Reply, sentinel: str) -> Address | None:
    """Host and port of GET-MASTER-ADDR-BY-NAME's reply; None when there is no such primary."""
    if reply is None:
        return None
    if isinstance(reply, list) and len(reply) == 2:
        host, port = reply
        if isinstance(host, str) and host and isinstance(port, str) and port.isascii() and port.isdigit():
            return host, int(port)
    raise ProbeError(Reason.PROTOCOL_ERROR, f"{sentinel} answers, but not as a Sentinel does")


def _replica(reply: Reply) -> Address | None:
    fields = _fields(reply)
    port = _number(fields, "port")
    return (fields["ip"], port) if fields.get("ip") and port else None


def _fields(reply: Reply) -> dict[str, str]:
    """A Sentinel's flat list of names and values as a dictionary."""
    flat = reply if isinstance(reply, list) else []
    return {str(name): str(value) for name, value in zip(flat[::2], flat[1::2], strict=False)}


def _number(fields: dict[str, str], name: str) -> int:
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0
