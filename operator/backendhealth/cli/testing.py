"""`backendhealth test`: unit tests of diagnosis profiles and of policies, without a network."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from backendhealth.cli.load import load
from backendhealth.cli.options import EXIT_BAD_INPUT, tell
from backendhealth.cli.policybench import run_policy_case
from backendhealth.cli.policyjudging import policy_faults
from backendhealth.cli.policynames import PreparedPolicy, prepare_policies
from backendhealth.cli.testbench import TooLongError, run_case
from backendhealth.cli.testjudging import faults
from backendhealth.cli.testnames import Prepared, prepare
from backendhealth.cli.testreport import FORMATS, Tested
from backendhealth.core.spec.diagnosistest import TEST_KIND
from backendhealth.core.spec.policytest import POLICY_TEST_KIND

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXIT_GOOD = 0
EXIT_FAILED = 1
_EPILOG = """A file for it:
  apiVersion: backendhealth.dev/v1alpha1
  kind: DiagnosisTest                    # read by this command only, never by a cluster
  metadata: {name: etcd}
  spec:
    profileRef: {builtIn: placeos-rethinkdb}
    cases:
      - name: etcd is the cause, core is not
        steps:
          - {at: 30s, see: {core: NoCoreInstances, etcd: QuorumLost}}
        expect:
          - at: 1m
            rootCauses: [etcd]
            explained: {core: [etcd]}
            impact: {execute: Fails, listing: Works}
        never: {rootCauses: [core]}      # not even in one write

And for a policy:
  apiVersion: backendhealth.dev/v1alpha1
  kind: RemediationPolicyTest
  metadata: {name: drivers}
  spec:
    policy: placeos                      # a RemediationPolicy among the files
    profileRef: {builtIn: placeos-rethinkdb}
    cases:
      - name: drivers that die with Redis are left alone
        steps:
          - {at: 30s, see: {redis: ConnectionRefused, drivers: DriverCrashLooping}}
        expect:
          - at: 5m
            actions: []
            unmatched: {restart-crashed-drivers: redis explains it}

What is seen stands until a later step changes it and is attempted at the probe's interval; thresholds decide,
blame waits: all as in the operator, in virtual time.

exit codes:
  0  every case holds
  1  a case fails: what was expected, what was told instead, and the diagnosis at that time
  2  bad input: every problem is named on standard error

examples:
  backendhealth test tests/
  backendhealth test profile.yaml profile-test.yaml --run 'etcd|redis' -v
  backendhealth test tests/ -o junit > junit.xml
"""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `test`."""
    parser = subparsers.add_parser(
        "test",
        help="run unit tests of diagnosis profiles and remediation policies",
        description="Runs the cases of DiagnosisTest documents: given probe results over time, are causes, impact and "
        "conditions told as expected? And of RemediationPolicyTests: is what was expected done, or held back, and why? "
        "Profiles, policies and BackendHealths that they name must be among the files, or built in.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", metavar="FILE", nargs="+", help="YAML or JSON file, directory, or - for standard input"
    )
    parser.add_argument("--run", dest="only", metavar="REGEX", default="", help="only cases whose TEST/CASE matches")
    parser.add_argument("-v", "--verbose", action="store_true", help="name the cases that hold, too")
    parser.add_argument("-o", "--output", choices=tuple(FORMATS), default="text", help="output format (default: text)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the cases and print what came of them; answers with the exit code."""
    try:
        only = re.compile(args.only)
    except re.error as error:
        return tell(f"--run {args.only}: not a regular expression: {error}")
    loaded = load(args.paths)
    diagnoses, unknown = prepare(loaded)
    policies, unknown_too = prepare_policies(loaded)
    ready: list[Prepared | PreparedPolicy] = [*diagnoses, *policies]
    problems = sorted([*loaded.problems, *unknown, *unknown_too], key=lambda one: (one.source, one.line, one.column))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return EXIT_BAD_INPUT
    if not ready:
        return tell(f"no {TEST_KIND} and no {POLICY_TEST_KIND} in {', '.join(args.paths)}")
    chosen = [one for one in ready if only.search(one.name)]
    if not chosen:
        return tell(f"--run {args.only}: no case has such a name")
    try:
        results = [_tested(one) for one in chosen]
    except TooLongError as error:
        return tell(str(error))
    sys.stdout.write(FORMATS[args.output](results, verbose=args.verbose))
    return EXIT_FAILED if any(one.faults for one in results) else EXIT_GOOD


def _tested(one: Prepared | PreparedPolicy) -> Tested:
    try:
        if isinstance(one, PreparedPolicy):
            decided = run_policy_case(one.policy, one.resource, one.profile, one.targets, one.case)
            found = policy_faults(one.case, decided)
            return Tested(one.test.key, one.name, one.case.claim, one.place, found, "what was decided")
        ran = run_case(one.resource, one.profile, one.targets, one.case)
    except TooLongError as error:
        told = f"{error}: shorten the case, or give the BackendHealth a longer interval"
        raise TooLongError(f"{one.place}: {one.name}: {told}") from None
    return Tested(one.test.key, one.name, one.case.claim, one.place, faults(one.profile, one.case, ran))
