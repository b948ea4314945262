"""What Elasticsearch's answers mean: pure functions from health, state and search to problems and subjects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from backendhealth.core.observation import MAX_SUBJECTS, Fact, SubjectFinding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import ElasticsearchProbe, ElasticsearchSearch
from backendhealth.probes.elasticsearch_answers import Health, Index, Info, Search, State

_CLOSED, _WRITE = "4", "8"  # the server's numbers of blocks
_NAMED = 5  # indices that a message names; the rest is counted


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, about one index or about the cluster (empty `index`)."""

    reason: Reason
    message: str
    index: str = ""


def loading(state: State) -> list[Problem]:
    """That the cluster has not recovered its state: nothing else that it says counts until then."""
    if state.recovered:
        return []
    words = "the cluster is still starting: its state is not recovered, too few nodes have joined so far"
    return [Problem(Reason.LOADING, words)]


def absent(target: ElasticsearchProbe, health: Health) -> list[str]:
    """The names in the spec that health has no answer for: missing indices, or aliases and data streams."""
    if not health.timed_out:
        return []
    return [name for name in target.indices if "*" not in name and name not in health.indices]


def missing(names: Sequence[str], found: Mapping[str, Index]) -> list[Problem]:
    """Those of `names` that are no index, alias or data stream among `found`."""
    there = {name for index in found.values() for name in (*index.aliases, index.data_stream)} | set(found)
    return [Problem(Reason.INDEX_MISSING, f"index {name} does not exist", name) for name in names if name not in there]


def coloured(target: ElasticsearchProbe, health: Health) -> list[Problem]:
    """That the cluster, or what the spec names of it, is red, or yellow where the spec asks for green."""
    status = health.overall
    reason = _colour_reason(target, status)
    if reason is None:
        return []
    kind, number = (
        ("primary", health.unassigned_primary_shards) if status == "red" else ("replica", health.unassigned_shards)
    )
    words = f"{number} {kind} shard{' is' if number == 1 else 's are'} unassigned"
    bad = sorted(name for name, index in health.indices.items() if index.status == status)
    return [Problem(reason, f"cluster {health.cluster_name} is {status}: {words}{_of_indices(bad)}")]


def coloured_indices(target: ElasticsearchProbe, health: Health) -> Iterator[Problem]:
    """The same for each index."""
    for name, index in health.indices.items():
        reason = _colour_reason(target, index.status)
        if reason is not None:
            yield Problem(reason, f"index {name} is {index.status}", name)


def _colour_reason(target: ElasticsearchProbe, status: str) -> Reason | None:
    if status == "red":
        return Reason.CLUSTER_RED
    return Reason.CLUSTER_YELLOW if status == "yellow" and target.minimum_status == "green" else None


def _of_indices(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f" (index {', '.join(names[:_NAMED])}{more})"


def blocked(target: ElasticsearchProbe, health: Health, state: State) -> Iterator[Problem]:
    """Blocks of the whole cluster, and of those indices of the spec that health has an answer for."""
    for block in state.blocks.everywhere.values():
        if "write" in block.levels:
            yield Problem(Reason.INDEX_BLOCKED, f"all indices are blocked for writing: {block.words}")
    for name, blocks in state.blocks.indices.items():
        if not target.indices or name not in health.indices:
            continue
        for number, block in blocks.items():
            if _counts(target, name, number) and {"read", "write"} & set(block.levels):
                yield Problem(Reason.INDEX_BLOCKED, f"index {name} is blocked: {block.words}", name)


def _counts(target: ElasticsearchProbe, name: str, number: str) -> bool:
    # retired indices are closed or made read-only on purpose: a pattern must not complain of them
    by_pattern = any("*" in pattern and fnmatchcase(name, pattern) for pattern in target.indices)
    return not (by_pattern and number in (_CLOSED, _WRITE))


def searched(search: ElasticsearchSearch, answer: Search) -> list[Problem]:
    """A search that only a part of the shards answered, or that found too little."""
    shards, hits = answer.shards, answer.hits.total.value
    if shards.failed:
        why = f": {shards.failures[0].words}" if shards.failures else ""
        words = f"the search in {search.index} failed on {shards.failed} of {shards.total} shards{why}"
        return [Problem(Reason.SHARDS_FAILED, clip(words))]
    if hits < search.min_hits:
        words = f"the search in {search.index} found {hits} documents, fewer than {search.min_hits}"
        return [Problem(Reason.UNEXPECTED_RESULT, words)]
    return []


def facts(info: Info, health: Health, state: State) -> dict[str, Fact]:
    """What is worth showing of a cluster that answered."""
    return {
        "version": info.version.number,
        "clusterName": health.cluster_name,
        "status": health.overall,
        "nodes": health.number_of_nodes,
        "dataNodes": health.number_of_data_nodes,
        "activeShards": health.active_shards,
        "unassignedShards": health.unassigned_shards,
        "master": state.master,
    }


def index_subjects(health: Health, problems: Iterable[Problem], room: int = MAX_SUBJECTS) -> list[SubjectFinding]:
    """One subject an index, those with problems first when there are more than `room`; sorted by name."""
    about: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.index:
            about.setdefault(problem.index, []).append(problem)
    names = sorted({*health.indices, *about}, key=lambda name: (name not in about, name))[:room]
    return [_index_subject(name, health, about.get(name, [])) for name in sorted(names)]


def _index_subject(name: str, health: Health, problems: list[Problem]) -> SubjectFinding:
    if not problems:
        return SubjectFinding(f"index/{name}", Reason.PROBE_SUCCEEDED, health.indices[name].status)
    return SubjectFinding(f"index/{name}", worst_first(problems)[0].reason, told(problems))


def worst_first(problems: Iterable[Problem]) -> list[Problem]:
    """By verdict, else in the order in which they were found."""
    return sorted(problems, key=lambda problem: -problem.reason.verdict.rank)


def told(problems: Iterable[Problem]) -> str:
    """The messages of several problems as one."""
    return clip("; ".join(dict.fromkeys(problem.message for problem in problems)))
