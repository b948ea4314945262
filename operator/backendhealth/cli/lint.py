"""`backendhealth lint`: everything that is wrong with YAML, offline, by the models that the CRD is made from."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from backendhealth.cli.documents import FileProblem
from backendhealth.cli.load import KINDS, Loaded, load
from backendhealth.cli.policyreferences import doubtful_policies
from backendhealth.cli.references import doubtful_names

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXIT_GOOD = 0
EXIT_BAD = 2


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `lint`."""
    parser = subparsers.add_parser("lint", help="check YAML offline", description=__doc__)
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="YAML or JSON file, directory, or - for standard input"
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="output format (default: text)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print every problem; 0 when there is none, else 2."""
    loaded = load(args.paths)
    loaded.problems.extend(_doubts(loaded))
    loaded.problems.sort(key=lambda problem: (problem.source, problem.line, problem.column))
    if not loaded.seen and not loaded.secrets and not loaded.problems:
        told = f"no {' or '.join(KINDS)} in {', '.join(args.paths)}"
        loaded.problems.append(FileProblem(args.paths[0], 0, 0, "", "no-resource", told))
    print(_as_json(loaded) if args.output == "json" else _as_text(loaded))
    return EXIT_BAD if loaded.problems else EXIT_GOOD


def _doubts(loaded: Loaded) -> list[FileProblem]:
    found = [
        *doubtful_names(loaded.resources, loaded.profiles),
        *doubtful_policies(loaded.policies, loaded.resources, loaded.profiles),
    ]
    return [
        loaded.documents[identity].problem(problem.loc, problem.rule, problem.message, problem.suggestion)
        for identity, problem in found
    ]


def _as_text(loaded: Loaded) -> str:
    count = f"{_counted(len(loaded.problems), 'problem')} in {_counted(loaded.seen, 'resource')}"
    return "\n".join([*map(str, loaded.problems), f"{count}, {_counted(loaded.sources, 'file')} read"])


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _as_json(loaded: Loaded) -> str:
    problems = [asdict(problem) for problem in loaded.problems]
    return json.dumps({"problems": problems, "resources": loaded.seen, "files": loaded.sources}, indent=2)
