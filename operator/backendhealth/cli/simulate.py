"""`backendhealth simulate`: what a policy would have done in an incident that was recorded."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backendhealth.cli.knowing import knowledge_among
from backendhealth.cli.load import Loaded, load
from backendhealth.cli.options import EXIT_BAD_INPUT, add_files, load_or_tell, tell
from backendhealth.cli.recording import RecordingError, read
from backendhealth.core.observation import Observation
from backendhealth.core.remediation.ruling import Hold, Ruling
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.remediation.situations import moment, situation_of
from backendhealth.core.remediation.trial import Around, Deed, Trial
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, RemediationPolicy
from backendhealth.core.verdict import Verdict
from backendhealth.engine.cycle import Cycle

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXIT_SAME = 0
EXIT_DIFFERENT = 1
_SHORT = 1e-3  # seconds; what decides at a time is looked at that much later, so that rounding keeps nobody waiting
_EPILOG = """The recording is what happened without the policy: that an action would have helped can't be seen in it.
What a policy does first is told as it would have been; what it does after that, as if that had not helped.
A policy in DryRun is simulated as if its mode were Enforce; --mode says otherwise.

exit codes:
  0  simulated; with --against: the decisions are the same
  1  with --against: they differ
  2  bad input: every problem is named on standard error

examples:
  backendhealth check -f placeos.yaml --watch --record incident.jsonl
  backendhealth simulate -f placeos.yaml -f policy.yaml --from incident.jsonl
  backendhealth simulate -f placeos.yaml -f policy.yaml --from incident.jsonl --against main/policy.yaml
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of the answer: when, by which rule, on which BackendHealth, what was decided, and why."""

    at: str
    backend_health: str
    policy: str
    rule: str
    decision: str
    because: str

    def __str__(self) -> str:
        return f"{self.at}  {self.backend_health}  {self.policy}/{self.rule}  {self.decision}: {self.because}"


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `simulate`."""
    parser = subparsers.add_parser(
        "simulate",
        help="say what a policy would have done in a recorded incident",
        description="Runs a recording through thresholds, diagnosis and the RemediationPolicies of the files, and"
        " prints each decision: what would be done, what held it back, and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_files(parser)
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="RECORDING",
        type=Path,
        required=True,
        help="file that `check --record` wrote",
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        action="append",
        default=[],
        help="the policies as they were: print only which decisions change; may be given several times",
    )
    parser.add_argument(
        "--mode", choices=("DryRun", "Approve", "Enforce"), help="simulate all policies in this mode (see below)"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Simulate, print, answer with the exit code."""
    loaded = load_or_tell(args.files)
    if loaded is None:
        return EXIT_BAD_INPUT
    if not loaded.policies:
        return tell(f"no {POLICY_KIND} in {', '.join(args.files)}")
    old = load(args.against) if args.against else None
    if old is not None and (old.problems or not old.policies):
        for problem in old.problems:
            print(problem, file=sys.stderr)
        return EXIT_BAD_INPUT if old.problems else tell(f"no {POLICY_KIND} in {', '.join(args.against)}")
    try:
        once, observations = read(args.recording)
        seen = list(observations)
    except (RecordingError, OSError, UnicodeDecodeError) as error:
        return tell(str(error))
    if not seen:
        return tell(f"{args.recording}: no observation in it")
    new = simulate(loaded, _in_mode(loaded.policies, args.mode), seen, once=once)
    if old is None:
        print(_shown(new, args.output), end="")
        return EXIT_SAME
    before = simulate(loaded, _in_mode(old.policies, args.mode), seen, once=once)
    return _compare(before, new, args.output)


def _in_mode(policies: Sequence[RemediationPolicy], mode: str | None) -> list[RemediationPolicy]:
    changed = []
    for policy in policies:
        wanted = mode or ("Enforce" if policy.spec.mode == "DryRun" else policy.spec.mode)
        changed.append(policy.model_copy(update={"spec": policy.spec.model_copy(update={"mode": wanted})}))
    return changed


def _shown(decisions: Sequence[Decision], output: str) -> str:
    if output == "json":
        return json.dumps([asdict(one) for one in decisions], indent=2) + "\n"
    return "".join(f"{one}\n" for one in decisions) or "no rule matched at any time\n"


def _compare(before: Sequence[Decision], after: Sequence[Decision], output: str) -> int:
    old, new = [str(one) for one in before], [str(one) for one in after]
    if old == new:
        print("[]" if output == "json" else f"the same {len(new)} decisions")
        return EXIT_SAME
    changes = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    print(json.dumps(changes, indent=2) if output == "json" else "\n".join(changes))
    return EXIT_DIFFERENT


def simulate(
    loaded: Loaded, policies: Sequence[RemediationPolicy], observations: Sequence[Observation], *, once: bool
) -> list[Decision]:
    """All decisions of `policies` on the resources of the files, by time."""
    return _Simulation(loaded, policies, once=once).run(observations)


class _Simulation:
    def __init__(self, loaded: Loaded, policies: Sequence[RemediationPolicy], *, once: bool) -> None:
        self._loaded = loaded
        self._decisions: list[Decision] = []
        self._touched: set[str] = set()
        self._cycle = Cycle(lambda resource, _: self._touched.add(resource.key), once=once, proven=self._touched.add)
        self._trials = [
            _Watched(resource.key, Trial(policy), self._decisions.append)
            for policy in policies
            for resource in loaded.resources
            if resource.metadata.namespace == policy.metadata.namespace
            and resource.metadata.name in policy.spec.backend_healths
        ]

    def run(self, observations: Sequence[Observation]) -> list[Decision]:
        for resource in self._loaded.resources:
            knowledge = knowledge_among(self._loaded, resource)
            self._cycle.apply(resource, observations[0].started, knowledge=knowledge)
        known = {(resource.key, probe.name) for resource in self._loaded.resources for probe in resource.spec.probes}
        for seen in observations:
            self._wait(seen.at)
            if (seen.resource, seen.probe) in known:
                self._cycle.observe(seen, seen.at)
                self._look(self._touched, seen.at)
                self._touched.clear()
        return self._decisions

    def _wait(self, until: float) -> None:
        """Everything that comes by time alone before `until`."""
        while due := min((one for one in self._trials if one.due < until), key=lambda one: one.due, default=None):
            self._look({due.key}, due.due)

    def _look(self, keys: set[str], now: float) -> None:
        statuses = {resource.key: self._cycle.status(resource.key) for resource in self._loaded.resources}
        states = {key: status.summary.state if status.summary else "" for key, status in statuses.items()}
        for one in self._trials:
            if one.key in keys:
                others = [state for key, state in states.items() if key != one.key]
                one.trial.around = Around(others.count(Verdict.UNHEALTHY), len(others))
                status = statuses[one.key]
                one.look(situation_of(one.key, one.key, status, self._cycle.observed(one.key)), now)


class _Watched:
    """A trial, and what is new in it after each look."""

    def __init__(self, key: str, trial: Trial, tell: Callable[[Decision], None]) -> None:
        self.key = key
        self.trial = trial
        self.due = float("inf")
        self._tell = tell
        self._held: dict[str, tuple[str, ...]] = {}

    def look(self, situation: Situation, now: float) -> None:
        """Look, and tell what is new."""
        before = {deed.name: len(deed.phases) for deed in self.trial.deeds}
        rulings = self.trial.look(situation, now)
        due = self.trial.next_look
        self.due = float("inf") if due is None else max(due, now) + _SHORT
        for decision in self._news(rulings, before, now):
            self._tell(decision)

    def _news(self, rulings: Sequence[Ruling], before: dict[str, int], now: float) -> Iterator[Decision]:
        for deed in self.trial.deeds:
            for at, phase in deed.phases[before.get(deed.name, 0) :]:
                if phase != "Pending":
                    yield self._decision(str(deed.spec.rule), _did(deed, phase), _why(deed), at)
        for ruling in rulings:
            guards = tuple(hold.guard.value for hold in ruling.holds)
            if guards != self._held.get(ruling.rule, ()):
                self._held[ruling.rule] = guards
                if guards and not ruling.unmatched:
                    yield self._decision(ruling.rule, f"held by {', '.join(guards)}", _because(ruling.holds[0]), now)

    def _decision(self, rule: str, decision: str, because: str, at: float) -> Decision:
        return Decision(moment(at), self.key, self.trial.policy.metadata.name, rule, decision, because)


def _did(deed: Deed, phase: str) -> str:
    what = f"step {deed.spec.step + 1} {deed.spec.action.kind} on {deed.spec.target.kind} {deed.target}"
    return f"{what} → {phase}"


def _why(deed: Deed) -> str:
    cause = deed.spec.cause
    return f"{cause.component} is Unhealthy ({cause.reason}): {cause.message}" if cause else ""


def _because(hold: Hold) -> str:
    return hold.because + (f" (until {moment(hold.until)})" if hold.until is not None else "")
