"""Several servers asked at once, each under its own time limit, so that one that hangs is a finding about that one."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from backendhealth.core.observation import MAX_SUBJECTS, Finding, SubjectFinding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import ProbeError, failure, timed_out
from backendhealth.probes.redis_link import Access, Link
from backendhealth.probes.trace import Trace

T = TypeVar("T")
Address = tuple[str, int]

MAX_NODES = MAX_SUBJECTS


@dataclasses.dataclass(frozen=True, slots=True)
class Visit(Generic[T]):
    """What came of asking one server; `answer` is None where the attempt failed."""

    link: Link
    finding: Finding
    answer: T | None = None


class Links:
    """One kept connection for each server of a target."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._links: dict[Address, Link] = {}

    def __getitem__(self, address: Address) -> Link:
        if address not in self._links:
            self._links[address] = Link(self._access, *address)
        return self._links[address]

    def keep_only(self, addresses: Collection[Address]) -> None:
        """Close the connections to all others: they have left."""
        for address in self._links.keys() - set(addresses):
            self._links.pop(address).drop()

    def not_after(self) -> dt.datetime | None:
        """The earliest end of a certificate among the servers."""
        return min((link.not_after for link in self._links.values() if link.not_after), default=None)

    def drop(self) -> None:
        """Close all."""
        for link in self._links.values():
            link.drop()


async def visit_all(
    links: Iterable[Link], work: Callable[[Link, Trace], Awaitable[tuple[Finding, T]]], limit: float, trace: Trace
) -> list[Visit[T]]:
    """Do `work` with all servers at once, `limit` seconds each; `trace` gets the slowest of each step."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_visit(link, work, limit, trace)) for link in links]
    return [task.result() for task in tasks]


async def _visit(
    link: Link, work: Callable[[Link, Trace], Awaitable[tuple[Finding, T]]], limit: float, whole: Trace
) -> Visit[T]:
    trace = Trace()
    answer = None
    try:
        async with asyncio.timeout(limit):
            await link.ready(trace)
            finding, answer = await work(link, trace)
    except TimeoutError:
        finding = timed_out(trace, limit)
    except (ProbeError, OSError) as error:  # ssl.SSLError is an OSError
        finding = failure(error, trace)
    whole.contact = whole.contact or finding.contact
    for step, seconds in trace.steps.items():
        whole.steps[step] = max(whole.steps.get(step, 0.0), seconds)
    return Visit(link, finding, answer)


def as_subject(kind: str, address: str, finding: Finding) -> SubjectFinding:
    """The subject for one server."""
    return SubjectFinding(f"{kind}/{address}", finding.reason, clip(finding.message), finding.facts)


def of_a_spare(finding: Finding) -> Reason:
    """The reason of a whole that works without this part: what is broken is a member down, what can't be told stays."""
    return Reason.MEMBER_DOWN if finding.verdict is Verdict.UNHEALTHY else finding.reason


def summed_up(
    problems: Sequence[tuple[Reason, str]],
    proof: str,
    subjects: Iterable[SubjectFinding],
    facts: Mapping[str, str | int | float | bool],
    trace: Trace,
) -> Finding:
    """One finding of all: the worst reason, the messages of all problems of that verdict, the subjects sorted."""
    reason, message = Reason.PROBE_SUCCEEDED, proof
    if problems:
        reason = max(problems, key=lambda problem: problem[0].verdict.rank)[0]
        message = "; ".join(told for other, told in problems if other.verdict is reason.verdict)
    if reason is Reason.MEMBER_DOWN:
        message = f"works, but: {message}"
    listed = sorted(subjects, key=lambda subject: (subject.reason is Reason.PROBE_SUCCEEDED, subject.subject))
    shown = sorted(listed[:MAX_SUBJECTS], key=lambda subject: subject.subject)
    return Finding(reason, clip(message), tuple(shown), facts, contact=trace.contact)
