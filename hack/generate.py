"""Writes what is made from the models: the CRD and the reference pages. With --check: fails when they are stale."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

from backendhealth import profiles  # noqa: E402
from backendhealth.cli.pictures import mermaid  # noqa: E402
from backendhealth.core.crd import (  # noqa: E402
    PLURAL,
    POLICY_PLURAL,
    POLICY_SHORT_NAME,
    PROFILE_PLURAL,
    PROFILE_SHORT_NAME,
    REMEDIATION_PLURAL,
    REMEDIATION_SHORT_NAME,
    SHORT_NAME,
    crd,
    policy_crd,
    profile_crd,
    remediation_crd,
)
from backendhealth.core.durations import DURATION_PATTERN  # noqa: E402
from backendhealth.core.reasons import Reason  # noqa: E402
from backendhealth.core.remediation.actioninfo import INFO  # noqa: E402
from backendhealth.core.remediation.ruling import MEANINGS, TO_DO, Guard  # noqa: E402
from backendhealth.core.spec.backendhealth import GROUP, KIND, VERSION, BackendHealthSpec  # noqa: E402
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfile, DiagnosisProfileSpec  # noqa: E402
from backendhealth.core.spec.remediation import REMEDIATION_KIND, RemediationSpec, RemediationStatus  # noqa: E402
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, RemediationPolicySpec  # noqa: E402
from backendhealth.core.spec.status import BackendHealthStatus  # noqa: E402
from backendhealth.core.structural import Schema, structural_schema  # noqa: E402
from backendhealth.core.verdict import Verdict  # noqa: E402
from backendhealth.kube.series import TABLE  # noqa: E402
from backendhealth.kube.settings import Settings, default_text, flag_of, kind_of, variable_of  # noqa: E402
from hack.blockyaml import dumped  # noqa: E402

_MADE = "Made by `make generate` from the models; don't edit."


def outputs() -> dict[str, str]:
    """Content by path, relative to the root."""
    return {
        f"crds/{GROUP}_{PLURAL}.yaml": f"# {_MADE}\n" + dumped(crd()),
        f"crds/{GROUP}_{PROFILE_PLURAL}.yaml": f"# {_MADE}\n" + dumped(profile_crd()),
        f"crds/{GROUP}_{POLICY_PLURAL}.yaml": f"# {_MADE}\n" + dumped(policy_crd()),
        f"crds/{GROUP}_{REMEDIATION_PLURAL}.yaml": f"# {_MADE}\n" + dumped(remediation_crd()),
        "docs/reference/reasons.md": reasons_page(),
        "docs/reference/backendhealth.md": resource_page(
            KIND,
            SHORT_NAME,
            ("spec", structural_schema(BackendHealthSpec)),
            ("status", structural_schema(BackendHealthStatus)),
        ),
        "docs/reference/diagnosisprofile.md": resource_page(
            PROFILE_KIND, PROFILE_SHORT_NAME, ("spec", structural_schema(DiagnosisProfileSpec))
        ),
        "docs/reference/remediationpolicy.md": resource_page(
            POLICY_KIND, POLICY_SHORT_NAME, ("spec", structural_schema(RemediationPolicySpec))
        ),
        "docs/reference/remediation.md": resource_page(
            REMEDIATION_KIND,
            REMEDIATION_SHORT_NAME,
            ("spec", structural_schema(RemediationSpec)),
            ("status", structural_schema(RemediationStatus)),
        ),
        "docs/reference/actions.md": actions_page(),
        "docs/reference/profiles.md": profiles_page(),
        "docs/reference/operator.md": settings_page(),
        "docs/reference/metrics.md": metrics_page(),
    }


def reasons_page() -> str:
    """Every reason, by verdict."""
    lines = ["# Reasons", "", f"<!-- {_MADE} -->", ""]
    lines += [
        "Each probe answers with one reason, and each reason stands for one verdict. `backendhealth explain REASON`"
    ]
    lines += ["prints the same."]
    for verdict in sorted(Verdict, key=lambda v: v.rank, reverse=True):
        lines += [
            "",
            f"## {verdict.value}",
            "",
            "| reason | given by | meaning | found by | look at |",
            "|---|---|---|---|---|",
        ]
        for reason in Reason:
            if reason.verdict is verdict:
                info = reason.info
                cells = (f"`{reason.value}`", info.given_by, info.meaning, info.found_by, info.look_at)
                lines.append(_row(*cells))
    return "\n".join(lines) + "\n"


def resource_page(kind: str, short_name: str, *roots: tuple[str, Schema]) -> str:
    """Every field of a kind; objects that are alike, such as `tls`, once."""
    lines = [f"# {kind}", "", f"<!-- {_MADE} -->", ""]
    lines += [f"`apiVersion: {GROUP}/{VERSION}`, `kind: {kind}`, short name `{short_name}`."]
    lines += ["Durations are text with a unit: `30s`, `500ms`, `1m30s`, `1h`."]
    sections: dict[str, str] = {}
    objects = [found for name, schema in roots for found in _objects(name, schema)]
    for path, node in objects:
        sections.setdefault(_likeness(node), path)
    for path, node in objects:
        if sections[_likeness(node)] == path:
            lines += _section(path, node, sections)
    return "\n".join(lines) + "\n"


def actions_page() -> str:
    """Every action, what it needs, and every guard that may hold one back."""
    lines = ["# Actions and guards", "", f"<!-- {_MADE} -->", ""]
    lines += ["What a RemediationPolicy may let happen. Everything is done as the policy's ServiceAccount, which needs"]
    lines += ["these grants in its own namespace; the operator may impersonate it and has none of them itself."]
    for one in INFO.values():
        lines += [
            "",
            f"## {one.kind}",
            "",
            one.does,
            "",
            f"- reversible: {one.reversible}",
            f"- seen by: {one.seen_by}",
        ]
        lines += ["", "| API group | resource | verbs |", "|---|---|---|"]
        for group, resource in dict.fromkeys((group, resource) for group, resource, _ in one.verbs):
            verbs = ", ".join(f"`{v}`" for g, r, v in one.verbs if (g, r) == (group, resource))
            lines.append(_row(f"`{group}`" if group else "", f"`{resource}`", verbs))
    lines += [
        "",
        "## Guards",
        "",
        "What may hold an action back, in the order in which it is asked. The first one that",
    ]
    lines += ["holds is the reason of the condition `RemediationAllowed`; all are in `status.remediation.holds`.", ""]
    lines += ["| guard | holds while | what to do |", "|---|---|---|"]
    lines += [_row(f"`{guard.value}`", MEANINGS[guard], TO_DO[guard]) for guard in Guard]
    return "\n".join(lines) + "\n"


def profiles_page() -> str:
    """Every built-in profile: its picture, what fails with what, and its questions."""
    lines = ["# Built-in profiles", "", f"<!-- {_MADE} -->", ""]
    lines += [
        "`profileRef: {builtIn: NAME}` in a BackendHealth chooses one; `backendhealth profiles NAME -o yaml` prints it."
    ]
    lines += [
        "How to write one: [write a profile](../how-to/write-a-profile.md). In the pictures, an arrow goes from a"
    ]
    lines += ["from a component to what it depends on, a dotted one from a question to whom a no implicates first."]
    for name in profiles.names():
        lines += _profile_section(profiles.built_in(name))
    return "\n".join(lines) + "\n"


def _profile_section(profile: DiagnosisProfile) -> Iterator[str]:
    spec = profile.spec
    yield from ("", f"## {profile.metadata.name}", "", f"{spec.title}. {spec.description}")
    if not spec.components:
        return
    yield from ("", "```mermaid", mermaid(profile).rstrip(), "```", "")
    yield from (
        "What users notice when a component fails:",
        "",
        "| component | feature | effect | because |",
        "|---|---|---|---|",
    )
    for component in spec.components:
        for effect in component.effects:
            title = next(feature.title for feature in spec.features if feature.name == effect.feature)
            yield _row(component.title, title, effect.effect, effect.because)
    yield from ("", "Triage, in this order:", "", "| question | if not, it may be | then look at |", "|---|---|---|")
    titles = {component.name: component.title for component in spec.components}
    for one in spec.symptoms:
        yield _row(one.question, ", ".join(titles[name] for name in one.implicates), one.next_step or "")
    yield from ("", "Error texts:", "", "| text | speaks against | speaks for | because |", "|---|---|---|---|")
    for text in spec.signatures:
        against, for_ = (", ".join(titles[name] for name in names) for names in (text.implicates, text.clears))
        yield _row(f"`{text.pattern}`", against, for_, text.because)
    yield from ("", "What looks like a cause and is not:", "")
    yield from (f"- {one.because}" for one in spec.confounders)


def settings_page() -> str:
    """Every setting of the operator."""
    lines = ["# Settings of the operator", "", f"<!-- {_MADE} -->", ""]
    lines += [
        "A flag of `backendhealth operator`, or an environment variable; `kopf run` knows the variables only. A flag"
    ]
    lines += [
        "goes before the variable, an empty variable counts as none. Lists are separated by commas. Every setting"
    ]
    lines += ["that can't be used is named, and the exit code is 2.", ""]
    lines += ["| flag | variable | value | default | meaning |", "|---|---|---|---|---|"]
    fields = Settings.model_json_schema()["properties"]
    for name, info in Settings.model_fields.items():
        flag = f"`{flag_of(name)}`" + (f", `{flag_of(name, off=True)}`" if isinstance(info.default, bool) else "")
        default = f"`{default_text(info)}`" if default_text(info) else ""
        lines.append(
            _row(flag, f"`{variable_of(name)}`", _value(fields[name], kind_of(info)), default, str(info.description))
        )
    return "\n".join(lines) + "\n"


def _value(field: Schema, kind: str) -> str:
    plain = kind in {"list", "text", "true or false"} and "enum" not in field
    return kind if plain else _type(field, {})


def metrics_page() -> str:
    """Every metric."""
    lines = ["# Metrics", "", f"<!-- {_MADE} -->", ""]
    lines += [
        "`GET /metrics` of the operator, besides `process_*`. `namespace` and `name` are the BackendHealth's: scrape"
    ]
    lines += [
        "with `honorLabels: true`. A resource that is deleted, or that another replica serves, has no series here.",
        "",
    ]
    lines += ["| metric | type | labels | series | meaning |", "|---|---|---|---|---|"]
    for one in TABLE:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(_row(f"`{one.name}`", one.kind, labels, one.bound, one.meaning))
    return "\n".join(lines) + "\n"


def _likeness(node: Schema) -> str:
    return json.dumps(node["properties"], sort_keys=True)


def _section(path: str, node: Schema, sections: dict[str, str]) -> Iterator[str]:
    yield from ("", f"## {path}", "", str(node.get("description", "")), "")
    yield from ("| field | type | meaning |", "|---|---|---|")
    for name, field in node["properties"].items():
        default = f" Default: `{_plain(field['default'])}`." if "default" in field else ""
        needed = " (required)" if name in node.get("required", ()) else ""
        yield _row(f"`{name}`{needed}", _type(field, sections), f"{field['description']}{default}")
    rules = [rule["message"].split(": ", 1) for rule in node.get("x-kubernetes-validations", ())]
    yield from ["", *(f"- `{rule}`: {told}" for rule, told in rules)] if rules else ()


def _objects(path: str, node: Schema) -> Iterator[tuple[str, Schema]]:
    """Every object below `node`, itself first; items of lists as `path[]`."""
    if node["type"] == "array":
        yield from _objects(f"{path}[]", node["items"])
    if "properties" in node:
        yield path, node
        for name, field in node["properties"].items():
            yield from _objects(f"{path}.{name}", field)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(node: Schema, sections: dict[str, str]) -> str:
    if "additionalProperties" in node:
        return f"map of text to {_type(node['additionalProperties'], sections)}, at most {node['maxProperties']}"
    if node["type"] == "object":
        return f"[object](#{re.sub('[^a-z]', '', sections[_likeness(node)].lower())})"
    if node["type"] == "array":
        return f"list of {_type(node['items'], sections)}, at most {node['maxItems']}"
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    if node.get("pattern") == DURATION_PATTERN:
        told = node["x-kubernetes-validations"][0]["message"].split(": ", 1)[1]
        return f"duration, {told.removeprefix('must be ')}"
    bounds = f", {node['minimum']} to {node['maximum']}" if "maximum" in node else ""
    most = f", at most {node['maxLength']} characters" if node["type"] == "string" else ""
    return f"{node['type']}{bounds}{most}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def check(made: dict[str, str]) -> int:
    """1, with the difference printed, when a file is not what would be written."""
    stale = 0
    for path, content in made.items():
        file = ROOT / path
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        if there != content:
            stale = 1
            difference = difflib.unified_diff(
                there.splitlines(), content.splitlines(), path, f"{path} (from the models)", lineterm=""
            )
            print("\n".join(difference))
    if stale:
        print("stale: run `make generate`", file=sys.stderr)
    return stale


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 and show a diff when a file is stale"
    )
    made = outputs()
    if parser.parse_args().check:
        return check(made)
    for path, content in made.items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
