"""Prints what came of the cases of tests: as text with what differs, as JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from backendhealth.cli.output import wrapped
from backendhealth.cli.testjudging import Fault

_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Tested:
    """One case of a test (`namespace/name`): its `TEST/CASE`, its place (`file:line`) and what is not as expected."""

    test: str
    name: str
    claim: str | None
    place: str
    faults: list[Fault]
    about: str = "the diagnosis"
    """What is told of the time of a fault."""


def _text(results: Sequence[Tested], *, verbose: bool) -> str:
    lines: list[str] = []
    for one in results:
        if one.faults:
            lines += [f"FAIL {one.name} ({one.place})", *_told(one), ""]
        elif verbose:
            lines.append(f"ok   {one.name}")
    failed = sum(bool(one.faults) for one in results)
    cases = f"{len(results)} case{'' if len(results) == 1 else 's'}"
    return "\n".join([*lines, f"{cases}, {failed or 'none'} failed"]) + "\n"


def _told(one: Tested) -> Iterator[str]:
    if one.claim:
        yield wrapped(f"{_INDENT}claim: {one.claim}")
    for fault in one.faults:
        yield f"{_INDENT}{fault.when} (- expected, + told):"
        for each in fault.differences:
            yield f"{_INDENT}  - {each.field}: {each.expected}"
            yield f"{_INDENT}  + {each.field}: {each.got}"
        yield f"{_INDENT}  {one.about} then:{'' if fault.told else ' nothing is wrong'}"
        yield from (wrapped(f"{_INDENT}{_INDENT}{line}") for line in fault.told)


def _junit(results: Sequence[Tested], *, verbose: bool) -> str:  # noqa: ARG001 - all cases are always in it
    suites = ET.Element("testsuites", name="backendhealth test")
    for test, group in groupby(results, key=lambda one: one.test):
        cases = list(group)
        failed = sum(bool(one.faults) for one in cases)
        suite = ET.SubElement(suites, "testsuite", name=test, tests=str(len(cases)), failures=str(failed), errors="0")
        for one in cases:
            file, _, line = one.place.rpartition(":")
            case = ET.SubElement(
                suite, "testcase", classname=test, name=one.name.partition("/")[2], file=file, line=line
            )
            if one.faults:
                fields = ", ".join(each.field for fault in one.faults for each in fault.differences)
                ET.SubElement(case, "failure", message=f"not as expected: {fields}").text = "\n".join(_told(one))
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


FORMATS: dict[str, Callable[..., str]] = {"text": _text, "junit": _junit}
"""What prints results as `-o` says, ending in a newline; `verbose` names the cases that hold, too."""
