"""What an action depends on at a moment, and the fence: all of it asked anew, immediately before an effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from backendhealth.actions.ports import Stop
from backendhealth.core.remediation.recheck import recheck
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import Situation, World
from backendhealth.core.remediation.storm import raged_until, raging
from backendhealth.core.spec.remediation import RemediationSpec
from backendhealth.core.spec.remediationpolicy import StormBreaker
from backendhealth.engine.remediation.book import Book, name_of, namespace_of
from backendhealth.engine.remediation.ports import (
    OpenActing,
    Performers,
    Serves,
    Situations,
    Store,
    Stored,
    StoredPolicy,
    Switch,
    Unavailable,
)
from backendhealth.engine.remediation.steady import SteadyClock

STEPS = ("decided", "claimed", "toggle-claimed", "running", "fencing", "performed", "recorded", "shown", "finished")
"""Between a decision and the end of its record. The effect is after `fencing` and before `performed`."""
At = Callable[[str], Awaitable[None]]
"""Told each step that is reached."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All that is handed in; `identity` is the name of this very process."""

    store: Store
    situations: Situations
    open_acting: OpenActing
    performers: Performers
    switch: Switch
    serves: Serves
    identity: str
    at: At


class Around:
    """What is around: the switch as it was asked last, storms, the time, whose the namespace is."""

    def __init__(self, ports: Ports, clock: SteadyClock) -> None:
        self._ports = ports
        self.clock = clock
        self.closing = False
        self._off = "it has not been asked yet"
        self.turns = 0
        """How often the switch has said something else than before."""
        self._storms: dict[tuple[str, int], float] = {}
        self._raging: frozenset[tuple[str, int]] = frozenset()

    @property
    def off(self) -> str:
        """Why nothing at all is begun, as far as is known; empty: it may be."""
        return ("the operator is ending" if self.closing else "") or self.clock.trouble() or self._off

    async def ask(self) -> str:
        """The same, with the switch asked anew."""
        off = await self._ports.switch()
        self.turns += off != self._off
        self._off = off
        return self.off

    def world(self, namespace: str, policy: StoredPolicy | None) -> World:
        """What `recheck` and `decide` need to know besides."""
        unhealthy, total = self._ports.situations.counted()
        seen = self._storms.get(_key(policy.policy.spec.storm_breaker)) if policy else None
        return World(unhealthy, total, seen, self.off, serves=self._ports.serves(namespace))

    def situation(self, namespace: str, spec: RemediationSpec) -> Situation | None:
        """Of the BackendHealth that it is about."""
        return self._ports.situations.situation(f"{namespace}/{spec.cause.backend_health}") if spec.cause else None

    def note_storms(self, breakers: Iterable[StormBreaker]) -> bool:
        """Remember storms that rage now, or did before we came; answers with whether one has begun or ended."""
        breakers = tuple(breakers)
        unhealthy, total = self._ports.situations.counted()
        now = self.clock.now()
        for one in breakers:
            before = raged_until(one, self._ports.situations.unhealthy_before(), total)
            if before is not None:
                self._storms[_key(one)] = max(self._storms.get(_key(one), before), before)
        rages = frozenset(_key(one) for one in breakers if raging(one, unhealthy, total))
        self._storms.update(dict.fromkeys(rages | self._raging, now))
        changed = rages != self._raging
        self._raging = rages
        return changed


def _key(breaker: StormBreaker) -> tuple[str, int]:
    return breaker.unhealthy_over, breaker.of_at_least


class Fence:
    """For one Remediation and one action: awaited immediately before each effect, with a line on what it will be."""

    def __init__(self, ports: Ports, around: Around, book: Book, stored: Stored, account: str) -> None:
        self._ports = ports
        self._around = around
        self._book = book
        self._stored = stored
        self._account = account
        self.dry = stored.remediation.spec.mode == "DryRun" and stored.remediation.spec.revert is None
        self.passed = False
        """Whether there may have been an effect."""
        self.lines: list[str] = []
        self.holds: tuple[Hold, ...] = ()

    async def __call__(self, line: str) -> None:
        """Raises Stop."""
        self.lines.append(line)
        self.passed = False  # an action has one effect: who comes here again has had none
        namespace, spec = namespace_of(self._stored), self._stored.remediation.spec
        policy = None
        await self._around.ask()
        if spec.revert is None:
            try:
                policy = await self._ports.store.policy_now(namespace, spec.policy_ref.name)
            except Unavailable as error:
                self._stop(Hold(Guard.POLICY_CHANGED, f"it can't be asked whether the policy still allows it: {error}"))
        if self.dry:
            raise Stop("it is a dry run")
        await self._ports.at("fencing")
        # no await from here on: what is seen now is what the effect follows
        self._stop(*self._now(namespace, policy))
        self.passed = True

    def _now(self, namespace: str, policy: StoredPolicy | None) -> tuple[Hold, ...]:
        newest = self._book.newest(self._stored)
        if newest is None or (newest.status.phase, newest.status.by) != ("Running", self._ports.identity):
            return (Hold(Guard.NOT_SERVED, "somebody else has taken the Remediation over"),)
        spec = newest.remediation.spec
        if self._around.closing:
            return (Hold(Guard.NOT_SERVED, "the operator is ending"),)
        if policy is not None and policy.policy.spec.service_account_name != self._account:
            return (Hold(Guard.POLICY_CHANGED, "the policy names another ServiceAccount by now"),)
        return recheck(
            policy.policy if policy else None,
            policy.uid if policy else "",
            spec,
            self._around.situation(namespace, spec),
            self._book.past(namespace),
            self._around.world(namespace, policy),
            self._around.clock.now(),
            name=name_of(newest),
        )

    def _stop(self, *holds: Hold) -> None:
        if holds:
            self.holds = holds
            raise Stop(holds[0].because)


async def closed(line: str) -> None:
    """The fence where nothing may be done: while it is only looked what there is."""
    raise Stop(f"nothing may be done yet: {line}")
