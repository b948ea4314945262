"""A Redis Cluster: every node, the cluster's own map of slots, and a write to each primary on request."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.redis_link import Access, ErrorReply, Link, split_address
from backendhealth.probes.redis_nodes import MAX_NODES, Links, Visit, as_subject, of_a_spare, summed_up, visit_all
from backendhealth.probes.redis_server import Problem, examine, refusal, write_key
from backendhealth.probes.redis_topology import SLOTS, Map, Node, parse_map, show, unassigned, write_key_for
from backendhealth.probes.trace import Trace

PHASE_SHARE = 0.3  # of the time-out, for each of: the nodes named, the nodes learnt, the writes

ON_THE_MOVE = {"MOVED", "ASK", "TRYAGAIN"}  # the key's slot has left, or is leaving, since the map was drawn: no fault


class ClusterExchange:
    """The nodes that the spec names, then those that they know."""

    def __init__(self, endpoints: Sequence[str], access: Access, *, write_check: bool, expiry_warning: float) -> None:
        self._seeds = list(dict.fromkeys(split_address(endpoint) for endpoint in endpoints))
        self._links = Links(access)
        self._write_check = write_check
        self._expiry_warning = expiry_warning
        self._write_key = functools.lru_cache(MAX_NODES)(write_key_for)

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Ask the nodes named, then the others; then write."""
        limit = timeout * PHASE_SHARE
        seeds = await visit_all([self._links[seed] for seed in self._seeds], self._ask, limit, trace)
        best = _best_map(seeds, trace)
        visits = {visit.answer.me.id: visit for visit in seeds if visit.answer is not None}
        named = {(visit.link.host, visit.link.port): visit for visit in seeds}
        for node in best.nodes:  # a node that was named and failed is not asked again
            if node.id not in visits and (node.host, node.port) in named:
                visits[node.id] = named[node.host, node.port]
        left = [node for node in best.nodes if node.known and node.id not in visits][: MAX_NODES - len(seeds)]
        learnt = await visit_all([self._links[node.host, node.port] for node in left], self._ask, limit, trace)
        visits.update(zip((node.id for node in left), learnt, strict=True))
        self._links.keep_only([*self._seeds, *((node.host, node.port) for node in left)])
        strangers = _strangers(seeds, best, visits)
        if self._write_check:
            await self._write(best.nodes, visits, limit, trace)
        finding = self._finding(best, visits, strangers, trace)
        return check_expiry(finding, self._links.not_after(), self._expiry_warning)

    async def close(self) -> None:
        """Close all kept connections."""
        self._links.drop()

    async def _ask(self, link: Link, trace: Trace) -> tuple[Finding, Map]:
        finding = await examine(link, trace, "any")
        info, nodes = await link.ask(trace, ("cluster", ["CLUSTER", "INFO"]), ("cluster", ["CLUSTER", "NODES"]))
        for reply in (info, nodes):
            if isinstance(reply, ErrorReply):
                raise _not_in_a_cluster(reply, finding, link.address)
        known = parse_map(str(info), str(nodes), link.host, link.port)
        if finding.reason is Reason.PROBE_SUCCEEDED and known.state != "ok":
            told = f"{link.address} calls the cluster failed: it refuses requests (CLUSTERDOWN)"
            finding = dataclasses.replace(finding, reason=Reason.SLOTS_UNCOVERED, message=told)
        return finding, known

    async def _write(self, nodes: Sequence[Node], visits: dict[str, Visit[Map]], limit: float, trace: Trace) -> None:
        """SET a key of its own at each working primary; puts what came of it into `visits`."""
        keys = {
            visits[node.id].link: (node.id, self._write_key(node.slots))
            for node in nodes
            if node.slots and node.id in visits and visits[node.id].finding.reason is Reason.PROBE_SUCCEEDED
        }

        async def set_key(link: Link, own: Trace) -> tuple[Finding, None]:
            name, key = keys[link]
            before = visits[name].finding
            error = await write_key(link, own, key)
            if error is None or error.code in ON_THE_MOVE:
                return before, None
            reason, message = refusal(error, "SET", link.address)
            return dataclasses.replace(before, reason=reason, message=message), None

        for visit in await visit_all(keys, set_key, limit, trace):
            name = keys[visit.link][0]
            visits[name] = dataclasses.replace(visits[name], finding=visit.finding)

    def _finding(
        self, best: Map, visits: dict[str, Visit[Map]], strangers: Sequence[Visit[Map]], trace: Trace
    ) -> Finding:
        dead = {node.id for node in best.nodes if "fail" in node.flags}
        dead |= {name for name, visit in visits.items() if visit.answer is None and _is_down(visit)}
        nodes = [_up_to_date(node, visits.get(node.id)) for node in best.nodes]
        uncovered = _slot_problems(nodes, dead, visits)
        problems = list(uncovered)
        subjects = []
        for node in nodes:
            visit = visits.get(node.id)
            if visit is None:  # no address yet, or more nodes than are asked
                continue
            subjects.append(_subject(node, visit))
            follows = uncovered and visit.finding.reason is Reason.SLOTS_UNCOVERED
            if visit.finding.reason is not Reason.PROBE_SUCCEEDED and not follows:
                serves = bool(node.slots) and node.id not in dead
                reason = visit.finding.reason if serves else of_a_spare(visit.finding)
                problems.append((reason, _told(visit)))
        for visit in strangers:
            subjects.append(as_subject("endpoint", visit.link.address, visit.finding))
            problems.append((of_a_spare(visit.finding), _told(visit)))
        size = best.number("cluster_size")
        proof = f"all {SLOTS} slots served by {size} primaries, {len(visits)} nodes answer"
        return summed_up(problems, proof, subjects, self._facts(best, visits), trace)

    def _facts(self, best: Map, visits: dict[str, Visit[Map]]) -> dict[str, str | int | float | bool]:
        versions = {str(visit.finding.facts["version"]) for visit in visits.values() if visit.finding.facts}
        return {
            "version": ", ".join(sorted(versions)),
            "clusterState": best.state,
            "clusterSize": best.number("cluster_size"),
            "knownNodes": best.number("cluster_known_nodes"),
            "answeringNodes": sum(visit.answer is not None for visit in visits.values()),
            "slotsAssigned": best.number("cluster_slots_assigned"),
            "slotsOk": best.number("cluster_slots_ok"),
        }


def _best_map(seeds: Sequence[Visit[Map]], trace: Trace) -> Map:
    """The most recent map among the nodes that answered. Raises ProbeError when none did."""
    maps = [visit.answer for visit in seeds if visit.answer is not None]
    if maps:
        return max(maps, key=lambda one: one.number("cluster_current_epoch"))
    subjects = [as_subject("endpoint", visit.link.address, visit.finding) for visit in seeds]
    finding = summed_up([(visit.finding.reason, _told(visit)) for visit in seeds], "", subjects, {}, trace)
    raise ProbeError(finding.reason, f"no node of the cluster answers: {finding.message}", finding.subjects)


def _strangers(seeds: Sequence[Visit[Map]], best: Map, visits: dict[str, Visit[Map]]) -> list[Visit[Map]]:
    """The nodes that the spec names but the map does not: silent ones, or in a cluster of their own."""
    asked = {visits[node.id].link for node in best.nodes if node.id in visits}
    answered = {visit.answer.me.id for visit in seeds if visit.answer is not None}
    own = answered - {node.id for node in best.nodes}
    return [visit for visit in seeds if visit.link not in asked and (visit.answer is None or visit.answer.me.id in own)]


def _not_in_a_cluster(error: ErrorReply, finding: Finding, address: str) -> ProbeError:
    if "cluster support disabled" in error.text:
        return ProbeError(Reason.PROTOCOL_ERROR, f"{address} is no node of a Cluster: probe it by `url`")
    if finding.reason is not Reason.PROBE_SUCCEEDED:  # LOADING and the like were told already
        return ProbeError(finding.reason, finding.message)
    return ProbeError(*refusal(error, "CLUSTER", address))


def _is_down(visit: Visit[Map]) -> bool:
    return visit.finding.verdict is Verdict.UNHEALTHY


def _up_to_date(node: Node, visit: Visit[Map] | None) -> Node:
    """The node with the slots that it claims itself: the others' maps may lag behind."""
    return dataclasses.replace(node, slots=visit.answer.me.slots) if visit and visit.answer else node


def _slot_problems(nodes: Sequence[Node], dead: set[str], visits: dict[str, Visit[Map]]) -> list[Problem]:
    """Slots that belong to nobody, and slots whose node is dead."""
    problems: list[Problem] = []
    if free := unassigned(nodes):
        problems.append((Reason.SLOTS_UNCOVERED, f"{show(free)} are assigned to no node"))
    for node in nodes:
        if node.slots and node.id in dead:
            visit = visits.get(node.id)
            why = visit.finding.message if visit and visit.answer is None else "the cluster calls it failed"
            problems.append(
                (Reason.SLOTS_UNCOVERED, f"{show(node.slots)} are served by nobody: {node.address} is down ({why})")
            )
    return problems


def _subject(node: Node, visit: Visit[Map]) -> SubjectFinding:
    subject = as_subject("node", node.address, visit.finding)
    return dataclasses.replace(subject, facts={**subject.facts, "nodeId": node.id})


def _told(visit: Visit[Map]) -> str:
    message = visit.finding.message
    return message if visit.link.address in message else f"{visit.link.address}: {message}"
