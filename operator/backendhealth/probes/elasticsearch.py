"""Elasticsearch: health, master, blocks and, on request, a search, by one or several of the cluster's nodes.

Each URL is asked for the cluster's health (and, on a new connection, for itself); the first that answers is asked the
rest. An endpoint that fails while another works is a member that is down.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import elasticsearch as es

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Finding, SubjectFinding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Tls
from backendhealth.core.spec.targets import ElasticsearchProbe
from backendhealth.core.verdict import Verdict
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.elasticsearch_answers import (
    HEALTH_FIELDS,
    INDEX_FIELDS,
    SEARCH_FIELDS,
    STATE_FIELDS,
    Health,
    Index,
    Info,
    Search,
    State,
    read,
)
from backendhealth.probes.elasticsearch_client import Endpoint, understood
from backendhealth.probes.elasticsearch_verdict import (
    Problem,
    absent,
    blocked,
    coloured,
    coloured_indices,
    facts,
    index_subjects,
    loading,
    missing,
    searched,
    told,
    worst_first,
)
from backendhealth.probes.endpoint import margin
from backendhealth.probes.exchange import ProbeError, failure, timed_out
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace

_SHARE_OF_MANY = 0.7  # of the time-out may pass until all endpoints have answered or hang
_SHARE_OF_HEALTH = 0.6  # of the time left: the rest tells a cluster without a master from a node that hangs
_FAIR = 0.25  # with less than this share of the time-out, a missing answer says nothing about the master
_MAX_MASTER_TIMEOUT = 1.0  # seconds


def build(target: ElasticsearchProbe, context: Context) -> ElasticsearchExchange:
    """The exchange with the cluster behind `target.urls`."""
    return ElasticsearchExchange(target, [Endpoint(url, target, context) for url in target.urls])


@dataclass(frozen=True, slots=True)
class _Reached:
    """An endpoint that answered for the cluster."""

    endpoint: Endpoint
    client: es.AsyncElasticsearch
    info: Info
    health: Health
    trace: Trace


class ElasticsearchExchange:
    """Keeps one connection to each endpoint."""

    def __init__(self, target: ElasticsearchProbe, endpoints: list[Endpoint]) -> None:
        self._target = target
        self._endpoints = endpoints

    async def close(self) -> None:
        """Close all connections at once."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """One attempt; every endpoint is asked, at the same time."""
        deadline = asyncio.get_running_loop().time() + timeout - margin(timeout)
        if len(self._endpoints) == 1:
            outcomes = [await self._try(self._endpoints[0], trace, timeout)]
        else:
            async with asyncio.TaskGroup() as group:
                share = timeout * _SHARE_OF_MANY
                tasks = [group.create_task(self._try(each, Trace(), share)) for each in self._endpoints]
            outcomes = [task.result() for task in tasks]
        reached = next((outcome for outcome in outcomes if isinstance(outcome, _Reached)), None)
        if reached is None:
            return self._none_reached([outcome for outcome in outcomes if isinstance(outcome, Finding)])
        finding = await self._judge(reached, outcomes, deadline)
        return self._with_expiry(finding)

    async def _try(self, endpoint: Endpoint, trace: Trace, budget: float) -> _Reached | Finding:
        """Ask one endpoint; its failure is a finding, and its connection is dropped."""
        try:
            async with asyncio.timeout(budget - margin(budget)):
                return await self._reach(endpoint, trace, budget)
        except TimeoutError:
            finding = timed_out(trace, budget)
        except (ProbeError, OSError, ssl.SSLError) as error:
            finding = failure(error, trace)
        await endpoint.close()
        return finding

    async def _reach(self, endpoint: Endpoint, trace: Trace, budget: float) -> _Reached:
        loop = asyncio.get_running_loop()
        end = loop.time() + budget - margin(budget)
        client = await endpoint.connect(trace)
        if endpoint.info is None:
            endpoint.info = await _info(endpoint, client, trace)
        limit = (end - loop.time()) * _SHARE_OF_HEALTH
        try:
            async with asyncio.timeout(limit):
                health = await self._health(endpoint, client, trace, limit)
        except TimeoutError:
            if limit < budget * _FAIR:
                raise
            await _info(endpoint, client, trace)  # raises when it is the node that hangs
            words = (
                f"{endpoint.name} answers, but not to cluster health within {limit:.2g} s: its master does not answer"
            )
            raise ProbeError(Reason.NO_MASTER, words) from None
        return _Reached(endpoint, client, endpoint.info, health, trace)

    async def _health(self, endpoint: Endpoint, client: es.AsyncElasticsearch, trace: Trace, limit: float) -> Health:
        names = self._target.indices
        health = await self._ask_health(endpoint, client, trace, limit, by_index=bool(names))
        if health.status == "red" and not names:  # the names of what is lost are worth a second request
            health = await self._ask_health(endpoint, client, trace, limit, by_index=True)
        return health

    async def _ask_health(
        self, endpoint: Endpoint, client: es.AsyncElasticsearch, trace: Trace, limit: float, *, by_index: bool
    ) -> Health:
        with trace.step("health"), understood(endpoint):
            answer = await client.cluster.health(
                index=self._target.indices or None,
                level="indices" if by_index else "cluster",
                master_timeout=f"{int(min(_MAX_MASTER_TIMEOUT, limit / 2) * 1000)}ms",
                timeout="0s",  # don't wait for indices that are missing
                filter_path=HEALTH_FIELDS,
            )
        return read(Health, answer, endpoint.name)

    async def _judge(self, reached: _Reached, outcomes: list[_Reached | Finding], deadline: float) -> Finding:
        health, trace = reached.health, reached.trace
        state = await _state(reached)
        problems = loading(state)
        if not problems:
            problems = await self._problems(reached, state, deadline)
        problems += [
            Problem(Reason.MEMBER_DOWN, _about(endpoint, outcome))
            for endpoint, outcome in zip(self._endpoints, outcomes, strict=True)
            if isinstance(outcome, Finding)
        ]
        problems = worst_first(problems)
        subjects = [_endpoint_subject(*pair) for pair in zip(self._endpoints, outcomes, strict=True)]
        if self._target.indices and state.recovered:
            by_index = [*problems, *coloured_indices(self._target, health)]
            subjects += index_subjects(health, by_index, room=64 - len(subjects))
        return Finding(
            problems[0].reason if problems else Reason.PROBE_SUCCEEDED,
            told(problems) if problems else _all_is_well(reached, state),
            tuple(subjects),
            facts(reached.info, health, state),
            trace.steps,
        )

    async def _problems(self, reached: _Reached, state: State, deadline: float) -> list[Problem]:
        target, health = self._target, reached.health
        problems = missing(names, await _find(reached, names)) if (names := absent(target, health)) else []
        problems += coloured(target, health)
        problems += blocked(target, health, state)
        return problems + await self._search(reached, deadline)

    async def _search(self, reached: _Reached, deadline: float) -> list[Problem]:
        search = self._target.search
        if search is None:
            return []
        try:
            async with asyncio.timeout_at(deadline):
                with reached.trace.step("search"), understood(reached.endpoint):
                    answer = await reached.client.search(
                        index=search.index,
                        q=search.query_string,
                        size=0,
                        track_total_hits=max(1, search.min_hits),
                        filter_path=SEARCH_FIELDS,
                    )
            return searched(search, read(Search, answer, reached.endpoint.name))
        except TimeoutError:
            return [
                Problem(
                    Reason.TIMEOUT, f"the search in {search.index} was not answered in time: it hung in step search"
                )
            ]
        except ProbeError as error:
            return [Problem(error.reason, error.message)]

    def _none_reached(self, failures: list[Finding]) -> Finding:
        pairs = list(zip(self._endpoints, failures, strict=True))
        # an endpoint whose health can't be told may be the one that works; else what a server says itself counts most
        worst = min(
            failures, key=lambda each: (each.verdict is not Verdict.UNKNOWN, each.reason is not Reason.NO_MASTER)
        )
        words = "; ".join(_about(*pair) for pair in pairs)
        return Finding(
            worst.reason,
            clip(words if len(pairs) == 1 else f"none of {len(pairs)} endpoints works: {words}"),
            tuple(_endpoint_subject(*pair) for pair in pairs),
            steps=worst.steps,
            contact=any(each.contact for each in failures),
        )

    def _with_expiry(self, finding: Finding) -> Finding:
        ends = [end for endpoint in self._endpoints if (end := endpoint.not_after)]
        warning = seconds((self._target.tls or Tls()).expiry_warning)
        return check_expiry(finding, min(ends, default=None), warning)


async def _info(endpoint: Endpoint, client: es.AsyncElasticsearch, trace: Trace) -> Info:
    with trace.step("info"), understood(endpoint):
        answer = await client.info()
    return read(Info, answer, endpoint.name)


async def _state(reached: _Reached) -> State:
    with reached.trace.step("state"), understood(reached.endpoint):
        answer = await reached.client.cluster.state(metric=("master_node", "nodes", "blocks"), filter_path=STATE_FIELDS)
    return read(State, answer, reached.endpoint.name)


async def _find(reached: _Reached, names: list[str]) -> dict[str, Index]:
    """The indices that `names` stand for, be they aliases or data streams."""
    with reached.trace.step("indices"), understood(reached.endpoint):
        answer = await reached.client.indices.get(
            index=names, ignore_unavailable=True, features="aliases", filter_path=INDEX_FIELDS
        )
    return {name: read(Index, index, reached.endpoint.name) for name, index in answer.items()}


def _about(endpoint: Endpoint, outcome: Finding) -> str:
    return outcome.message if endpoint.name in outcome.message else f"{endpoint.name}: {outcome.message}"


def _endpoint_subject(endpoint: Endpoint, outcome: _Reached | Finding) -> SubjectFinding:
    name = f"endpoint/{endpoint.name}"
    if isinstance(outcome, Finding):
        return SubjectFinding(name, outcome.reason, outcome.message)
    return SubjectFinding(name, Reason.PROBE_SUCCEEDED, "answers", {"version": outcome.info.version.number})


def _all_is_well(reached: _Reached, state: State) -> str:
    health = reached.health
    nodes = "1 node" if health.number_of_nodes == 1 else f"{health.number_of_nodes} nodes"
    return f"cluster {health.cluster_name} is {health.overall}, {nodes}, master {state.master}"
