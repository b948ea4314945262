"""Carries a Remediation through its phases. What it is to do happens once, after `Running` has been written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from backendhealth.actions.ports import Acting, Effect, Outcome, Refused, Silent, Stop
from backendhealth.core.observation import clip
from backendhealth.core.remediation.recheck import recheck
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.remediation.situations import instant, moment
from backendhealth.core.spec.remediation import FINAL, Phase, RemediationSpec
from backendhealth.engine.remediation.book import Book, name_of, namespace_of, told
from backendhealth.engine.remediation.fencing import Around, Fence, Ports, closed
from backendhealth.engine.remediation.ports import Conflict, Stored, StoredPolicy, Unavailable
from backendhealth.engine.remediation.recording import SHORT, after, calls_of, forged, held
from backendhealth.engine.remediation.reverting import Later, Reverts
from backendhealth.engine.remediation.verifying import Verifier

log = logging.getLogger(__name__)

SOON = 2.0
"""Seconds until something that could not be begun or written is tried again."""
REVERT_AGAIN = 60.0
"""Seconds until an effect that could provably not be taken back is tried to be again."""

Spawn = Callable[[Coroutine[Any, Any, None], Coroutine[Any, Any, None]], None]
"""(what is to be run, what it awaits)"""


class Carrier:
    """Those of all namespaces; `spawn` runs what takes long beside everything else."""

    def __init__(self, ports: Ports, around: Around, book: Book, spawn: Spawn) -> None:
        self._ports = ports
        self._around = around
        self._book = book
        self._reverts = Reverts(ports.store, book)
        self._verifier = Verifier(ports, around)
        self._spawn = spawn
        self._carried: dict[str, bool] = {}
        """UIDs of those that this process is at; True: past the write of Running, but not yet of the outcome."""
        self._unbegun: set[str] = set()
        """Whose Running may have been written, but by us, who have made no effect since."""
        self._not_before: dict[str, float] = {}

    @property
    def acting(self) -> bool:
        """Whether any effect may be under way."""
        return any(self._carried.values())

    def again_at(self, stored: Stored) -> float | None:
        """When to look at it again if nothing happens, in seconds since the epoch."""
        if stored.uid in self._carried:
            return None
        spec, times = stored.remediation.spec, [instant(stored.remediation.spec.not_after) + 1]
        if spec.revert is not None:
            times.append(instant(spec.revert.not_before))
        now = self._around.clock.now()
        times.append(now + max(0.0, self._not_before.get(stored.uid, 0.0) - asyncio.get_running_loop().time()))
        return min((at for at in times if at > now), default=None)

    async def look(self, stored: Stored, policy: StoredPolicy | None) -> None:
        """Take one that is not at its end as far as it goes now; `policy` is the one that it names, as last seen."""
        if stored.uid in self._carried or stored.status.phase in FINAL:
            return
        if asyncio.get_running_loop().time() < self._not_before.get(stored.uid, 0.0):
            return
        if stored.problem:
            await self._end(stored, "Failed", f"not done: {stored.problem}; correct that in another one, please")
        elif stored.status.phase == "Running":
            await self._left_running(stored, policy)
        elif stored.status.phase == "Verifying":
            self._take(stored.uid, self._verify(stored, self._account(stored, policy)))
        elif stored.remediation.spec.revert is not None:
            await self._take_back(stored, policy)
        else:
            await self._waiting(stored, policy)

    async def _left_running(self, stored: Stored, policy: StoredPolicy | None) -> None:
        """Of another process, or of a former life, whose Lease is ours now: nobody is at it any more."""
        if stored.uid in self._unbegun and stored.status.by == self._ports.identity:
            self._unbegun.discard(stored.uid)
            self._take(stored.uid, self._act(stored, self._account(stored, policy)), effect=True)
            return
        message = f"{stored.status.by} ended while it was at it: it is not known what was done, and it is not repeated"
        await self._end(stored, "Unknown", message)

    async def _take_back(self, stored: Stored, policy: StoredPolicy | None) -> None:
        try:
            settled = self._reverts.look(stored, self._around.clock.now())
        except Later as later:
            if stored.status.phase == "Pending" and not stored.status.message:
                await self._book.attempt(stored, told(stored.status, str(later)))
            return
        if settled is not None:
            await self._end(stored, settled.phase, settled.message)
        else:
            await self._begin(stored, policy)

    async def _waiting(self, stored: Stored, policy: StoredPolicy | None) -> None:
        spec, status, now = stored.remediation.spec, stored.status, self._around.clock.now()
        never = forged(stored) or self._impossible(spec)
        if never:
            await self._end(stored, "Failed", f"not done: {never}")
        elif spec.approval is not None and spec.approval.decision == "Rejected":
            await self._end(stored, "Rejected", f"{spec.approval.by} has rejected it: {spec.approval.reason or ''}")
        elif now > instant(spec.not_after):
            waited = status.holds[0].message if status.holds else "nobody has approved it"
            await self._end(stored, "Expired", f"not done in time: {waited}")
        elif spec.mode == "Approve" and spec.approval is None:
            if status.phase != "AwaitingApproval":
                waits = f"waits for approval until {spec.not_after}"
                await self._book.attempt(stored, told(status, waits, phase="AwaitingApproval"))
        else:
            await self._unless_held(stored, policy, now)

    async def _unless_held(self, stored: Stored, policy: StoredPolicy | None, now: float) -> None:
        spec, namespace = stored.remediation.spec, namespace_of(stored)
        situation = self._around.situation(namespace, spec)
        holds = recheck(
            policy.policy if policy else None,
            policy.uid if policy else "",
            spec,
            situation,
            self._book.past(namespace),
            self._around.world(namespace, policy),
            now,
            name=name_of(stored),
        )
        if _is_over(spec, situation):
            await self._end(stored, "Expired", "not done: the incident that it is about is over")
        elif holds:
            await self._book.attempt(stored, held(stored.status, holds))
        else:
            await self._begin(stored, policy)

    async def _begin(self, stored: Stored, policy: StoredPolicy | None) -> None:
        spec, now = stored.remediation.spec, self._around.clock.now()
        account = self._account(stored, policy)
        if not account:
            await self._book.attempt(
                stored, held(stored.status, (Hold(Guard.POLICY_CHANGED, "it is not known as whom it would be done"),))
            )
            return
        if spec.mode == "DryRun" and spec.revert is None:
            self._take(stored.uid, self._rehearse(stored, account))
            return
        try:
            settled = await self._reverts.claim(stored, now)
        except (Later, Conflict, Unavailable) as error:
            log.info("%s is not begun: %s", name_of(stored), error)
            self._later(stored, SOON)
            return
        if settled is not None:
            await self._end(stored, settled.phase, settled.message)
            return
        await self._ports.at("toggle-claimed")
        await self._run(stored, account)

    async def _run(self, stored: Stored, account: str) -> None:
        """Write Running, which no two can do; then, and only then, act."""
        acting_as = self._open(stored, account, [], None).cluster.acting_as
        status = told(
            stored.status,
            "has begun",
            phase="Running",
            by=clip(self._ports.identity, SHORT),
            acting_as=clip(acting_as, SHORT),
            started_at=moment(self._around.clock.now()),
        )
        self._carried[stored.uid] = True
        try:
            running = await self._book.write(stored, status)
        except (Conflict, Unavailable) as error:
            log.info("%s is not begun: %s", name_of(stored), error)
            if isinstance(error, Unavailable):
                self._unbegun.add(stored.uid)
            del self._carried[stored.uid]
            self._later(stored, SOON)
            return
        except BaseException:
            del self._carried[stored.uid]
            raise
        await self._ports.at("running")
        self._take(stored.uid, self._act(running, account), effect=True)

    async def _act(self, stored: Stored, account: str) -> None:
        notes: list[str] = []
        fence = Fence(self._ports, self._around, self._book, stored, account)
        acting = self._open(stored, account, notes, fence)
        outcome = await self._outcome(acting, stored, fence)
        await self._ports.at("performed")
        now = self._around.clock.now()
        if fence.holds and not fence.passed:
            status = held(stored.status, fence.holds).model_copy(update={"started_at": None})
            self._later(stored, SOON)
        else:
            status = after(stored, outcome, notes, now)
        if status.phase == "Held" and stored.remediation.spec.revert is not None:
            self._later(stored, REVERT_AGAIN)
        recorded = await self._book.record(stored, status)
        self._carried[stored.uid] = False
        await self._ports.at("recorded")
        if recorded is not None and recorded.status.phase == "Verifying":
            await self._verify(recorded, account, notes)

    async def _outcome(self, acting: Acting, stored: Stored, fence: Fence) -> Outcome:
        """What is known of the effect. What failed before the fence was passed has had none."""
        spec = stored.remediation.spec
        try:
            return await self._ports.performers[spec.action.kind].perform(acting, spec)
        except Stop as stop:
            if fence.passed:
                return Outcome(Effect.UNKNOWN, f"stopped half-way: {stop}")
            return Outcome(Effect.NOT_DONE, f"not done: {stop}")
        except Refused as refused:
            remedy = f"; {refused.remedy}" if refused.remedy else ""
            return Outcome(Effect.NOT_DONE, f"not done, refused: {refused.message}{remedy}")
        except Silent as silent:
            effect = Effect.UNKNOWN if fence.passed else Effect.NOT_DONE
            return Outcome(effect, f"{'it is not known whether it was done' if fence.passed else 'not done'}: {silent}")
        except Exception:
            log.exception("a fault of the operator's own while it was at %s", name_of(stored))
            effect = Effect.UNKNOWN if fence.passed else Effect.NOT_DONE
            return Outcome(effect, "a fault of the operator's own, see its log")

    async def _rehearse(self, stored: Stored, account: str) -> None:
        """A dry run: everything up to the effect."""
        notes: list[str] = []
        fence = Fence(self._ports, self._around, self._book, stored, account)
        acting = self._open(stored, account, notes, fence)
        outcome = await self._outcome(acting, stored, fence)
        if fence.holds:
            await self._book.record(stored, held(stored.status, fence.holds))
            return
        would = [f"not done, dry run: {line}" for line in fence.lines]
        now = moment(self._around.clock.now())
        status = told(
            stored.status,
            f"dry run: would {'; '.join(fence.lines)}" if fence.lines else f"dry run: {outcome.message}",
            phase="DryRun",
            by=clip(self._ports.identity, SHORT),
            acting_as=clip(acting.cluster.acting_as, SHORT),
            finished_at=now,
            calls=calls_of([*notes, *would]),
        )
        await self._book.record(stored, status)

    async def _verify(self, stored: Stored, account: str, notes: list[str] | None = None) -> None:
        calls = notes if notes is not None else list(stored.status.calls)
        acting = self._open(stored, account, calls, None)
        found = await self._verifier.verdict(
            stored, acting, self._ports.performers[stored.remediation.spec.action.kind]
        )
        if found is None:
            return
        phase, why = found
        now = moment(self._around.clock.now())
        status = told(
            stored.status, f"{stored.status.message}; {why}", phase=phase, finished_at=now, calls=calls_of(calls)
        )
        if await self._book.record(stored, status) is not None:
            await self._ports.at("finished")

    async def _end(self, stored: Stored, phase: Phase, message: str) -> None:
        finished = moment(self._around.clock.now())
        if await self._book.attempt(stored, told(stored.status, message, phase=phase, finished_at=finished)) is None:
            self._later(stored, SOON)

    def _impossible(self, spec: RemediationSpec) -> str:
        known = spec.action.kind in self._ports.performers
        return "" if known else f"this version of the operator can't do {spec.action.kind}"

    def _account(self, stored: Stored, policy: StoredPolicy | None) -> str:
        """What was begun goes on as the identity that it was begun as, and is taken back so, too."""
        if stored.status.phase in ("Running", "Verifying"):
            return (stored.status.acting_as or "").rpartition(":")[2]
        before = self._reverts.account(stored) if stored.remediation.spec.revert is not None else ""
        return before or (policy.policy.spec.service_account_name if policy else "")

    def _open(self, stored: Stored, account: str, notes: list[str], fence: Fence | None) -> Acting:
        policy = stored.remediation.spec.policy_ref.name
        return self._ports.open_acting(namespace_of(stored), policy, account, notes, fence or closed)

    def _later(self, stored: Stored, wait: float) -> None:
        self._not_before[stored.uid] = asyncio.get_running_loop().time() + wait

    def _take(self, uid: str, work: Coroutine[Any, Any, None], *, effect: bool = False) -> None:
        self._carried[uid] = effect
        self._spawn(self._carry(uid, work), work)

    async def _carry(self, uid: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._carried.pop(uid, None)

    def forget(self, uids: set[str]) -> None:
        """All but these are not open any more."""
        self._unbegun &= uids
        self._not_before = {uid: at for uid, at in self._not_before.items() if uid in uids}


def _is_over(spec: RemediationSpec, situation: Situation | None) -> bool:
    """Whether the incident has ended, as this process has seen: it never comes again."""
    if spec.cause is None or situation is None:
        return False
    component = situation.components.get(spec.cause.component)
    return component is not None and component.observed and situation.incident != spec.cause.incident
