"""What must be right within a Remediation, and that nothing of it changes but its approval, once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backendhealth.core.spec.base import Raw, Rule, needs

_ON_PODS = ("debugLogs", "signal", "restartPods")
_KIND_OF = {
    **dict.fromkeys(_ON_PODS, "Pod"),
    "rolloutRestart": "Workload",
    "restartDriver": "Driver",
    "reloadDriver": "Driver",
}

_OBJECT = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_NAMES = {"Pod": f"^{_OBJECT}$", "Workload": f"^(Deployment|StatefulSet|DaemonSet)/{_OBJECT}$"}
"""Of targets whose name becomes part of a path: one with dots and slashes in it would lead to another namespace."""


def _always(_: Raw) -> bool:
    """A rule about a change: there is none in a file."""
    return True


def unchanging(needed: Sequence[str], optional: Sequence[str]) -> tuple[Rule, ...]:
    """Rules that these fields stay as they were."""
    same = [(field, f"self.{field} == oldSelf.{field}") for field in needed]
    same += [
        (
            field,
            f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        )
        for field in optional
    ]
    message = "a Remediation says what was decided, and does not change: make another one"
    return tuple(
        Rule(id="unchanging", message=message, cel=cel, fields=(), holds=_always, field=field) for field, cel in same
    )


def _kind_fits(raw: Raw) -> bool:
    return all(_KIND_OF[kind] == raw["target"]["kind"] for kind in raw["action"] if kind in _KIND_OF)


def _has_uid(raw: Raw) -> bool:
    return raw.get("uid") is not None or raw["kind"] == "Driver"


def _name_fits(raw: Raw) -> bool:
    pattern = _NAMES.get(raw["kind"])
    return pattern is None or re.fullmatch(pattern.strip("^$"), str(raw["name"]), re.ASCII) is not None


def _summary_told(raw: Raw) -> bool:
    summary = raw.get("summary")
    return summary is None or summary == summary_of(next(iter(raw["action"])), revert=raw.get("revert") is not None)


def summary_of(kind: str, *, revert: bool) -> str:
    """What `spec.summary` says of an action of this kind: its name, and `off` for what takes it back."""
    return f"{kind} off" if revert else kind


_CEL_KINDS = " && ".join(f"(!has(self.action.{kind}) || self.target.kind == '{of}')" for kind, of in _KIND_OF.items())
_CEL_SUMMARY = " || ".join(
    f"has(self.action.{kind}) && self.summary == '{kind}' + (has(self.revert) ? ' off' : '')" for kind in _KIND_OF
)

TARGET_RULES = (
    Rule(
        id="target-needs-uid",
        message="set the uid of the pod or workload, so that another one of its name is safe",
        cel="has(self.uid) || self.kind == 'Driver'",
        fields=("kind",),
        holds=_has_uid,
    ),
    Rule(
        id="target-name",
        message="the name is that of a pod, or the kind and name of a workload, e.g. Deployment/api",
        cel=" && ".join(f"(self.kind != '{kind}' || self.name.matches('{of}'))" for kind, of in _NAMES.items()),
        fields=("kind", "name"),
        holds=_name_fits,
        field="name",
    ),
)
REMEDIATION_RULES = (
    Rule(
        id="target-fits-action",
        message="signals and restartPods act on a Pod, rolloutRestart on a Workload, the others on a Driver",
        cel=_CEL_KINDS,
        fields=("target.kind",),
        holds=_kind_fits,
        field="target",
    ),
    needs("rule-needs-cause", "rule", "cause", "what a rule does has a cause: set cause"),
    needs("cause-needs-rule", "cause", "rule", "what follows a diagnosis does so by a rule: set rule"),
    Rule(
        id="rule-or-person",
        message="somebody is behind it: set requestedBy, or rule and cause",
        cel="has(self.rule) || has(self.requestedBy) || has(self.revert)",
        fields=(),
        holds=lambda raw: any(raw.get(field) is not None for field in ("rule", "requestedBy", "revert")),
    ),
    Rule(
        id="revert-needs-debug-logs",
        message="only debugLogs can be taken back",
        cel="!has(self.revert) || has(self.action.debugLogs)",
        fields=(),
        holds=lambda raw: raw.get("revert") is None or "debugLogs" in raw["action"],
        field="revert",
    ),
    Rule(
        id="summary-tells-action",
        message="the summary is the name of the action, with ` off` for one that takes it back",
        cel=f"!has(self.summary) || {_CEL_SUMMARY}",
        fields=("summary",),
        holds=_summary_told,
        field="summary",
    ),
    *unchanging(
        ("policyRef", "target", "action", "notAfter"),
        ("rule", "step", "cause", "requestedBy", "mode", "verify", "revert", "summary"),
    ),
    Rule(
        id="approval-once",
        message="a decision is given once, and stays",
        cel="!has(oldSelf.approval) || has(self.approval) && self.approval == oldSelf.approval",
        fields=(),
        holds=_always,
        field="approval",
    ),
)
