"""From a diagnosis to Remediations: what the policies decide, on which targets; creating each is the claim on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from backendhealth.actions.ports import Refused, Silent, Stop
from backendhealth.core.observation import clip
from backendhealth.core.remediation.deciding import decide, room
from backendhealth.core.remediation.guards import again_at, in_order
from backendhealth.core.remediation.ruling import Guard, Hold, Ruling
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.remediation.wanted import wanted
from backendhealth.core.spec.remediation import RemediationTarget
from backendhealth.core.spec.remediationpolicy import PolicyRule
from backendhealth.engine.remediation.book import Book
from backendhealth.engine.remediation.fencing import Around, Ports, closed
from backendhealth.engine.remediation.ports import Conflict, StoredPolicy, Unavailable

log = logging.getLogger(__name__)

SAME_TARGETS = 10.0
"""Seconds for which targets that were found are not looked for again."""
LOOK_FOR_TARGETS = 30.0
"""Seconds that finding targets may take."""
_MOST = 1024


@dataclass(frozen=True, slots=True)
class _Found:
    at: float
    targets: tuple[RemediationTarget, ...]
    trouble: str = ""


class Claimer:
    """Decides for one BackendHealth at a time; the caller sees to it that no two of a namespace race."""

    def __init__(self, ports: Ports, around: Around, book: Book) -> None:
        self._ports = ports
        self._around = around
        self._book = book
        self._found: dict[tuple[str, ...], _Found] = {}

    async def look(self, namespace: str, policy: StoredPolicy, situation: Situation) -> list[Ruling]:
        """What the policy says of the BackendHealth, after all that it allows has been claimed."""
        rulings = self._decide(namespace, policy, situation)
        if not any(ruling.acts for ruling in rulings):
            return rulings
        told: dict[str, Ruling] = {}
        for ruling in rulings:
            if ruling.acts:
                told[ruling.rule] = await self._act(namespace, policy, situation, ruling)
        return [one if one.holds else told.get(one.rule, one) for one in self._decide(namespace, policy, situation)]

    def _decide(self, namespace: str, policy: StoredPolicy, situation: Situation) -> list[Ruling]:
        world, now = self._around.world(namespace, policy), self._around.clock.now()
        return decide(policy.policy, policy.uid, situation, self._book.past(namespace), world, now)

    async def _act(self, namespace: str, policy: StoredPolicy, situation: Situation, ruling: Ruling) -> Ruling:
        rule = next(one for one in policy.policy.spec.remediation_rules if one.name == ruling.rule)
        await self._ports.at("decided")
        found = await self._targets(namespace, policy, rule, ruling, situation)
        if found.trouble or not found.targets:
            why = found.trouble or f"there is nothing that {rule.steps[ruling.step].kind} could be done to"
            return ruling._replace(holds=(Hold(Guard.TARGET_CHANGED, why),))
        rooms = []
        for target in found.targets:
            held = room(
                policy.policy,
                policy.uid,
                rule,
                target.id,
                self._book.past(namespace),
                self._around.clock.now(),
                incident=situation.incident,
                step=ruling.step,
            )
            rooms.append(held)
            if not held:
                await self._claim(namespace, policy, rule, ruling.step, target, situation)
        if not all(rooms):
            return ruling
        holds = in_order(list(dict.fromkeys(hold for held in rooms for hold in held)))
        return ruling._replace(holds=holds, again_at=again_at(holds))

    async def _claim(  # noqa: PLR0913, PLR0917 - all that it is about
        self,
        namespace: str,
        policy: StoredPolicy,
        rule: PolicyRule,
        step: int,
        target: RemediationTarget,
        situation: Situation,
    ) -> None:
        now = self._around.clock.now()
        name, spec = wanted(policy.policy, policy.uid, rule, step, target, situation, now)
        try:
            await self._book.create(namespace, name, spec)
        except (Conflict, Unavailable) as error:
            log.info("%s is not claimed: %s", name, error)
            return
        await self._ports.at("claimed")

    async def _targets(
        self, namespace: str, policy: StoredPolicy, rule: PolicyRule, ruling: Ruling, situation: Situation
    ) -> _Found:
        component = situation.components[rule.when.component]
        key = (policy.uid, str(policy.policy.metadata.generation), rule.name, str(ruling.step), situation.incident)
        at = asyncio.get_running_loop().time()
        known = self._found.get(key)
        if known is not None and at - known.at < SAME_TARGETS:
            return known
        action = rule.steps[ruling.step]
        performer = self._ports.performers[action.kind]
        spec = policy.policy.spec
        name = policy.policy.metadata.name
        acting = self._ports.open_acting(namespace, name, spec.service_account_name, [], closed)
        try:
            async with asyncio.timeout(LOOK_FOR_TARGETS):
                found = _Found(at, tuple(await performer.targets(acting, action.does, component)))
        except (Refused, Silent, Stop, TimeoutError) as error:
            remedy = f"; {error.remedy}" if isinstance(error, Refused) and error.remedy else ""
            found = _Found(at, (), clip(f"it can't be told what to act on: {error or 'no answer in time'}{remedy}"))
        if len(self._found) >= _MOST:
            self._found.clear()
        self._found[key] = found
        return found


def soonest(rulings: Sequence[Ruling], now: float, again: float) -> float | None:
    """When to look again if nothing happens, in seconds since the epoch; `again`: seconds, where nobody can tell."""
    times = [one.again_at for one in rulings if one.again_at is not None]
    if any(one.acts or one.holds for one in rulings):
        times.append(now + again)
    return min(times, default=None)
