"""`backendhealth triage`: from a person's answers, and from probes where there are any, to the cause."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import yaml

from backendhealth.cli.advice import as_object, as_text, something_is_wrong, untold
from backendhealth.cli.asking import HOW, Asker, NotUnderstood, reply_of
from backendhealth.cli.known import Known, Unusable, from_cluster, from_files, from_nothing
from backendhealth.cli.options import EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_UNKNOWN, tell
from backendhealth.cli.probing import KubeconfigError, access_problem, add_access
from backendhealth.core.spec.profile import DiagnosisProfileSpec, Symptom
from backendhealth.core.triage import Reply, Triage
from backendhealth.core.verdict import Verdict
from backendhealth.core.wording import closest

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_EPILOG = """answers:
  y, n, ? (don't know), or the error's text, which is a no. When standard input is no terminal each line is one
  answer; at its end the diagnosis is made from what is known. Questions go to standard error.

exit codes:
  0  nothing is wrong
  1  something is wrong: the cause or the suspects are named
  2  bad input: every problem is named on standard error
  3  nothing is known to be wrong, but a question has no answer or something is Unknown

examples:
  backendhealth triage --profile placeos-rethinkdb
  backendhealth triage -f placeos.yaml
  backendhealth triage placeos -n placeos
  backendhealth triage --profile placeos-postgres --answer login=yes --answer execute="no core instances" </dev/null
"""


def add_parser(verbs: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `triage`."""
    parser = verbs.add_parser(
        "triage",
        help="ask and probe until the cause is found",
        description="Walks the questions of a platform's profile in order, answers those that probes can answer, asks "
        "you the others, and ends with the diagnosis and the next step. Works with no cluster and with no probe.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a BackendHealth of the cluster, or with -f of the files"
    )
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        help="probe what these files declare, once; they may hold DiagnosisProfiles, too",
    )
    parser.add_argument("--profile", metavar="P", help="name of a profile; default: the one that profileRef names")
    parser.add_argument("-n", "--namespace", metavar="NS", default="default", help="the namespace of NAME")
    add_access(parser)
    parser.add_argument(
        "--answer",
        dest="answers",
        metavar="SYMPTOM=ANSWER",
        action="append",
        default=[],
        help="an answer given beforehand, also instead of a probe's; may be given several times",
    )
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="default: text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, diagnose, print; answers with the exit code."""
    problem = access_problem(args) if args.files else ""
    if problem:
        return tell(problem)
    asker = Asker(sys.stdin, sys.stderr, terminal=sys.stdin.isatty())
    try:
        known = _known(args, asker)
        given = _given(args.answers, known.profile.spec)
    except (Unusable, KubeconfigError) as error:
        return tell(str(error))
    for note in known.notes:
        asker.say(note)
    triage = walk(Triage(known.profile.spec, known.evidence, time.time(), given), asker)
    sys.stdout.write(_render(triage, known.profile.metadata.name, args.output))
    if something_is_wrong(triage):
        return EXIT_UNHEALTHY
    nothing_seen = not (triage.evidence.components or triage.evidence.symptoms)
    return EXIT_UNKNOWN if nothing_seen or untold(triage) else EXIT_HEALTHY


def walk(triage: Triage, asker: Asker) -> Triage:
    """The triage after all questions whose answers can change it, or at the end of the input."""
    told: set[str] = set()
    while (question := triage.question) is not None:
        _tell_measured(triage, asker, told, question.symptom)
        reply = asker.ask(question)
        if reply is None:
            break
        triage = triage.replied(question.symptom.name, reply)
    else:
        _tell_measured(triage, asker, told, None)
    asker.say("")
    return triage


def _tell_measured(triage: Triage, asker: Asker, told: set[str], before: Symptom | None) -> None:
    """Tell what probes have answered to the questions that come before one; None: to all."""
    for symptom in triage.profile.symptoms:
        if symptom == before:
            return
        seen = triage.measured(symptom)
        if seen is None or symptom.name in told or symptom.name in triage.replies:
            continue
        told.add(symptom.name)
        word = "no" if seen.verdict is Verdict.UNHEALTHY else "yes"
        asker.say(f"{symptom.question} {word}, by a probe: {seen.message}")


def _known(args: argparse.Namespace, asker: Asker) -> Known:
    def choose(names: Sequence[str]) -> str:
        chosen = asker.choose("Which platform is it?", names) if sys.stdin.isatty() else None
        if chosen is None:
            raise Unusable(f"nothing says which platform it is: add --profile, one of {', '.join(names)}")
        return chosen

    if args.files:
        return asyncio.run(from_files(args, choose))
    if args.name:
        return asyncio.run(from_cluster(args, choose))
    return from_nothing(args, choose)


def _given(answers: Sequence[str], profile: DiagnosisProfileSpec) -> Mapping[str, Reply]:
    names = [one.name for one in profile.symptoms]
    given = {}
    for answer in answers:
        name, equals, text = answer.partition("=")
        if not equals:
            raise Unusable(f"--answer {answer}: write SYMPTOM=ANSWER, with {HOW}")
        if name not in names:
            meant = closest(name, names)
            hint = f'did you mean "{meant}"?' if meant else f"there are {', '.join(names) or 'none'}"
            raise Unusable(f"--answer {answer}: the profile has no symptom {name}: {hint}")
        try:
            given[name] = reply_of(text)
        except NotUnderstood as problem:
            raise Unusable(f"--answer {name}={problem}") from None
    return given


def _render(triage: Triage, profile: str, form: str) -> str:
    if form == "text":
        return as_text(triage)
    told = as_object(triage, profile)
    if form == "json":
        return json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=120)
