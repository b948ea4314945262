"""`backendhealth profiles`: lists the diagnosis profiles that ship inside this program, or in files; prints one."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from backendhealth import profiles as shipped
from backendhealth.cli.load import load
from backendhealth.cli.options import tell
from backendhealth.cli.output import columns
from backendhealth.cli.pictures import PICTURES
from backendhealth.core.spec.profile import DiagnosisProfile
from backendhealth.core.wording import closest

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXIT_GOOD = 0
_MAX_WIDTH = 120
_FORMATS = ("table", "yaml", *PICTURES)


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `profiles`."""
    parser = subparsers.add_parser("profiles", help="list and print diagnosis profiles", description=__doc__)
    parser.add_argument("name", metavar="NAME", nargs="?", help="the profile to print; a list of all without it")
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        help="profiles of YAML or JSON files instead of the built-in ones; may be given several times",
    )
    parser.add_argument("-o", "--output", choices=_FORMATS, default="table", help="output format (default: table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list, or one profile; 2 for one that there isn't and for files with problems."""
    if args.name is None and args.output in PICTURES:
        return tell(f"-o {args.output} draws one profile: name it")
    if args.files is None:
        found = [shipped.built_in(name) for name in shipped.names()]
    else:
        loaded = load(args.files)
        if loaded.problems:
            return tell("\n".join(map(str, loaded.problems)))
        found = loaded.profiles
    if args.name is None:
        print(_list(found, args.output), end="")
        return EXIT_GOOD
    one = next((profile for profile in found if profile.metadata.name == args.name), None)
    if one is None:
        return tell(_missing(args.name, [profile.metadata.name for profile in found]))
    print(_page(one, args.output), end="")
    return EXIT_GOOD


def _missing(name: str, known: Sequence[str]) -> str:
    meant = closest(name, known)
    hint = f'did you mean "{meant}"?' if meant else f"there are {', '.join(known) or 'none'}"
    return f"there is no profile {name}: {hint}"


def _list(found: Sequence[DiagnosisProfile], form: str) -> str:
    if form == "yaml":
        return "---\n".join(map(as_yaml, found))
    return columns([["NAME", "TITLE"], *([profile.metadata.name, profile.spec.title] for profile in found)])


def _page(profile: DiagnosisProfile, form: str) -> str:
    if form in PICTURES:
        return PICTURES[form](profile)
    return as_yaml(profile) if form == "yaml" else _table(profile)


def as_yaml(profile: DiagnosisProfile) -> str:
    """The profile as an object that `kubectl apply` takes, in the namespace that it says, if any."""
    dumped: dict[str, Any] = profile.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return yaml.safe_dump(dumped, sort_keys=False, allow_unicode=True, width=_MAX_WIDTH)


def _table(profile: DiagnosisProfile) -> str:
    spec = profile.spec
    width = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
    about = textwrap.fill(spec.description, width, break_on_hyphens=False) + "\n" if spec.description else ""
    parts = [f"{profile.metadata.name}: {spec.title}\n{about}"]
    if spec.components:
        parts.append(columns([["COMPONENT", "DEPENDS ON", "FAILS", "DEGRADED"], *_component_rows(profile)]))
    if spec.symptoms:
        rows = [[str(place), one.question, ", ".join(one.implicates)] for place, one in enumerate(spec.symptoms, 1)]
        parts.append(columns([["", "QUESTION", "IF NOT, IT MAY BE"], *rows]))
    return "\n".join(parts)


def _component_rows(profile: DiagnosisProfile) -> Iterator[Sequence[str]]:
    features = [feature.name for feature in profile.spec.features]
    for one in profile.spec.components:
        hit = {(effect.feature, effect.effect) for effect in one.effects}
        fails, degraded = (
            ", ".join(name for name in features if (name, effect) in hit) for effect in ("Fails", "Degraded")
        )
        yield one.name, ", ".join(one.depends_on), fails, degraded
