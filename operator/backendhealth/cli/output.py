"""Prints statuses: as kubectl does, in plain words, as the objects themselves, as JUnit."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from backendhealth.core.diagnosis.telling import told
from backendhealth.core.durations import human
from backendhealth.core.observation import Fact, Finding, Observation
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus, Diagnosis, PartStatus, ProbeStatus
from backendhealth.core.verdict import Verdict

Result = tuple[BackendHealth, BackendHealthStatus]
Findings = Mapping[tuple[str, str], Observation]
"""The last observation by resource key and probe."""
FORMATS = ("table", "wide", "json", "yaml", "junit")
_MAX_WIDTH = 120


def render(results: Sequence[Result], findings: Findings, form: str, now: float) -> str:
    """The text for `-o FORM`, ending in a newline."""
    match form:
        case "json":
            return json.dumps(as_objects(results), indent=2, ensure_ascii=False) + "\n"
        case "yaml":
            return yaml.safe_dump(as_objects(results), sort_keys=False, allow_unicode=True, width=120)
        case "junit":
            return _junit(results, findings)
        case _:
            return tables(results, findings, wide=form == "wide", now=now)


def as_objects(results: Sequence[Result]) -> dict[str, Any]:
    """The resources with `.status` as Kubernetes holds them; a List for several."""
    objects = [as_object(resource, status) for resource, status in results]
    return objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": objects}


def as_object(resource: BackendHealth, status: BackendHealthStatus) -> dict[str, Any]:
    """One resource with its status, in plain values."""
    dumped = resource.model_dump(mode="json", by_alias=True, exclude_unset=True)
    dumped["metadata"].setdefault("namespace", resource.metadata.namespace)
    dumped["status"] = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return dumped


def tables(results: Sequence[Result], findings: Findings, *, wide: bool, now: float) -> str:
    """The columns of kubectl for the resources, then a row for each probe; `wide`: the diagnosis in words, too."""
    namespaces = len({resource.metadata.namespace for resource, _ in results}) > 1
    head = [*(["NAMESPACE"] if namespaces else []), "NAME", "STATE", "ROOT CAUSE", "REASON", "IMPACT", "SINCE"]
    rows = [head + (["MESSAGE"] if wide else [])]
    for resource, status in results:
        rows.append(
            ([resource.metadata.namespace] if namespaces else []) + resource_row(resource, status, now, wide=wide)
        )
    text = columns(rows)
    for resource, status in results:
        named = f"{resource.key if namespaces else resource.metadata.name}:\n" if len(results) > 1 else ""
        text += "\n" + named + columns(probe_rows(resource, status, findings, now, wide=wide))
        if wide and status.diagnosis:
            text += diagnosis_text(status.diagnosis)
    return text


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """A section in plain words: cause, since when, what users notice, what still works, what to look at next.

    Empty while nothing is wrong.
    """
    lines = told(diagnosis)
    return "\n".join(["\nDIAGNOSIS", *map(wrapped, lines)]) + "\n" if lines else ""


def wrapped(line: str) -> str:
    """`line` as wide as the terminal, 120 characters at most; what goes on is indented by four."""
    width = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
    indent = line[: len(line) - len(line.lstrip())]
    more = f"{indent}    "
    return textwrap.fill(line, width, subsequent_indent=more, break_on_hyphens=False, break_long_words=False)


def resource_row(resource: BackendHealth, status: BackendHealthStatus, now: float, *, wide: bool) -> list[str]:
    """The cells of one resource, NAME first."""
    summary = status.summary
    if summary is None:
        return [resource.metadata.name, "", "", "", "", ""]
    cells = [resource.metadata.name, summary.state, summary.root_cause, summary.reason, summary.impact]
    return [*cells, _age(summary.since, now), *([summary.message] if wide else [])]


def probe_rows(
    resource: BackendHealth, status: BackendHealthStatus, findings: Findings, now: float, *, wide: bool
) -> list[list[str]]:
    """Head and cells of the probes of one resource."""
    rows = [["PROBE", "COMPONENT", "VERDICT", "REASON", "SINCE", "LATENCY", "MESSAGE"]]
    for probe in status.probes:
        seen = findings.get((resource.key, probe.name))
        latency = f"{(seen.at - seen.started) * 1000:.0f}ms" if seen else ""
        rows.append(
            [probe.name, probe.component, probe.verdict, probe.reason, _age(probe.since, now), latency, probe.message]
        )
        if wide and seen:
            rows += [["", "", "", "", "", "", line] for line in _details(seen.finding)]
        if wide:
            rows += [_part_row(part, now) for part in probe.parts]
    return rows


def _part_row(part: PartStatus, now: float) -> list[str]:
    kind, _, name = part.name.partition("/")
    component = name if kind == "component" else ""
    return [f"  {part.name}", component, part.verdict, part.reason, _age(part.since, now), "", part.message]


def _details(finding: Finding) -> list[str]:
    lines = []
    if finding.steps:
        lines.append("steps: " + ", ".join(f"{step} {1000 * took:.1f}ms" for step, took in finding.steps.items()))
    if finding.facts:
        lines.append("facts: " + ", ".join(f"{name}={_plain(value)}" for name, value in finding.facts.items()))
    lines += [
        f"{subject.subject}: {subject.reason}"
        + ("" if subject.reason.verdict is Verdict.HEALTHY else f": {subject.message}")
        for subject in finding.subjects
    ]
    return lines


def _plain(value: Fact) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _age(since: str | None, now: float) -> str:
    if since is None:
        return ""
    return human(max(0.0, now - dt.datetime.fromisoformat(since).timestamp()))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as kubectl aligns them: three spaces between columns, the last one free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def _junit(results: Sequence[Result], findings: Findings) -> str:
    suites = ET.Element("testsuites", name="backendhealth")
    for resource, status in results:
        told_of = list(_told_of(status.probes))
        suite = ET.SubElement(suites, "testsuite", name=resource.key, tests=str(len(told_of)))
        suite.set("failures", str(sum(one.verdict == Verdict.UNHEALTHY for _, one in told_of)))
        suite.set("errors", str(sum(one.verdict == Verdict.UNKNOWN for _, one in told_of)))
        for name, one in told_of:
            seen = findings.get((resource.key, name))
            case = ET.SubElement(suite, "testcase", classname=resource.key, name=name)
            case.set("time", f"{seen.at - seen.started:.3f}" if seen else "0")
            _outcome(case, one)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _told_of(probes: Sequence[ProbeStatus]) -> Iterator[tuple[str, ProbeStatus | PartStatus]]:
    """Each probe and each of its parts with the name of its test case."""
    for probe in probes:
        yield probe.name, probe
        yield from ((f"{probe.name}/{part.name}", part) for part in probe.parts)


def _outcome(case: ET.Element, one: ProbeStatus | PartStatus) -> None:
    about = {"type": one.reason, "message": one.message}
    if one.verdict == Verdict.UNHEALTHY:
        ET.SubElement(case, "failure", about)
    elif one.verdict == Verdict.UNKNOWN:
        ET.SubElement(case, "error", about)
    elif one.verdict == Verdict.DEGRADED:
        ET.SubElement(case, "system-out").text = f"Degraded: {one.reason}: {one.message}"
