"""The shipped admission policy on a real API server: who may approve, ask and sign, and that nothing else changes."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until
from tests.shipping.support import Object, apply, delete, of_kind, overlay

POLICY = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
ROLES = ("view", "edit", "policy-editor", "on-call", "approver")
BY_HAND: dict[str, Any] = {
    "policyRef": {"name": "placeos"},
    "target": {"kind": "Pod", "name": "core-0", "uid": "uid-0"},
    "action": {"restartPods": {"podSelector": {"matchLabels": {"app": "core"}}}},
    "notAfter": "2026-01-05T12:00:00Z",
}
BY_RULE = BY_HAND | {
    "rule": "restart",
    "cause": {
        "backendHealth": "placeos",
        "uid": "uid-1",
        "incident": "incident-1",
        "component": "core",
        "reason": "CrashLoopBackOff",
        "message": "seen",
    },
}
OPERATOR_RULES = [
    {"apiGroups": ["backendhealth.dev"], "resources": ["remediations"], "verbs": ["create", "get"]},
    {"apiGroups": ["backendhealth.dev"], "resources": ["remediations/status"], "verbs": ["update"]},
]
MAY_ALL_BUT_APPROVE = [
    {
        "apiGroups": ["backendhealth.dev"],
        "resources": ["remediations"],
        "verbs": ["get", "list", "create", "update", "patch"],
    }
]


def remediation(name: str, spec: Object, **metadata: Any) -> Object:
    return {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "Remediation",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


class Stage:
    """Tries things as somebody."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self.namespace = namespace

    def tried(self, user: str, *arguments: str, body: Any = None) -> str:
        """What kubectl says as `user`, whether it worked or not."""
        as_user = ("-n", self.namespace, f"--as={user}")
        return self._plane.kubectl(*arguments, *as_user, input=json.dumps(body) if body else None, check=False)

    def created(self, user: str, body: Object) -> str:
        return self.tried(user, "create", "-f", "-", body=body)

    def patched(self, user: str, name: str, patch: Object, *more: str) -> str:
        return self.tried(user, "patch", "remediation", name, "--type=merge", "-p", json.dumps(patch), *more)

    def approved(self, user: str, name: str, by: str = "", decision: str = "Approved") -> str:
        return self.patched(user, name, {"spec": {"approval": {"decision": decision, "by": by or user}}})

    def waiting(self, prefix: str, **metadata: Any) -> str:
        """A Remediation by a rule, as the operator makes one; its name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        assert "created" in self.created("operator", remediation(name, BY_RULE, **metadata))
        return name

    def spec(self, name: str) -> Object:
        found = self._plane.kubectl("get", "remediation", name, "-n", self.namespace, "-o", "json")
        spec: Object = json.loads(found)["spec"]
        return spec


def binding(user: str, role: str) -> Object:
    kind = "ClusterRole" if role.startswith("backendhealth-") else "Role"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }


def role(name: str, rules: list[Object]) -> Object:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}


@pytest.fixture(scope="module")
def admission(control_plane: ControlPlane) -> Iterator[list[Object]]:
    """The shipped admission policy and the roles for people."""
    objects = [
        one
        for one in of_kind(overlay("cluster-wide"), *POLICY, "ClusterRole")
        if one["metadata"]["name"] != "backendhealth-annotations"
    ]
    apply(control_plane, objects)
    yield objects
    delete(control_plane, objects)


@pytest.fixture(scope="module")
def stage(control_plane: ControlPlane, admission: list[Object]) -> Iterator[Stage]:
    """Users named after their roles, `operator`, and `writer`, who may all but approve."""
    assert admission
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"approvals-{secrets.token_hex(4)}"}}
    name = space["metadata"]["name"]  # type: ignore[index]
    bound = [binding(one, f"backendhealth-{one}") for one in ROLES]
    bound += [role("operator", OPERATOR_RULES), binding("operator", "operator")]
    bound += [role("writer", MAY_ALL_BUT_APPROVE), binding("writer", "writer")]
    apply(control_plane, [space])
    apply(control_plane, bound, "-n", name)
    stage = Stage(control_plane, name)
    wait_until(lambda: in_force(stage), 30.0, "the admission policy in force")
    yield stage
    delete(control_plane, [space])


def in_force(stage: Stage) -> bool:
    """A new policy is compiled a moment after it was taken."""
    asked = remediation("probe", BY_HAND | {"requestedBy": "somebody-else"})
    return "requestedBy must be" in stage.tried("writer", "create", "--dry-run=server", "-f", "-", body=asked)


def test_the_approvers_grant_is_enough(stage: Stage):
    name = stage.waiting("good")
    assert "patched" in stage.approved("approver", name)
    assert stage.spec(name)["approval"] == {"decision": "Approved", "by": "approver"}


def test_who_may_only_write_does_not_approve(stage: Stage):
    name = stage.waiting("held")
    assert "writer may not approve Remediations here" in stage.approved("writer", name)
    assert "approval" not in stage.spec(name)


@pytest.mark.parametrize("user", ["view", "edit", "policy-editor", "on-call"])
def test_no_other_role_approves(stage: Stage, user: str):
    name = stage.waiting("held")
    assert re.search("cannot (get|patch) resource", stage.approved(user, name))


def test_nobody_signs_for_another(stage: Stage):
    name = stage.waiting("signed")
    assert "spec.approval.by must be approver, who decides" in stage.approved("approver", name, by="edit")
    assert "approval" not in stage.spec(name)


def test_a_decision_stays(stage: Stage):
    name = stage.waiting("decided")
    assert "patched" in stage.approved("approver", name, decision="Rejected")
    assert "approval-once" in stage.approved("approver", name, decision="Approved")
    assert "approval-once" in stage.patched("approver", name, {"spec": {"approval": None}})
    assert stage.spec(name)["approval"]["decision"] == "Rejected"


CHANGES: dict[str, Any] = {
    "policyRef": {"name": "other"},
    "rule": "another",
    "step": 1,
    "cause": {"reason": "Timeout"},
    "requestedBy": "approver",
    "mode": "DryRun",
    "target": {"name": "core-1"},
    "action": {"restartPods": {"method": "Delete"}},
    "verify": {"within": "1h"},
    "notAfter": "2027-01-05T12:00:00Z",
    "summary": "restartPods",
    "revert": {"remediation": "x", "toggle": "t", "epoch": 1, "notBefore": "2026-01-05T12:00:00Z"},
}


def test_approval_sets_nothing_else_free(stage: Stage):
    from backendhealth.core.spec.remediation import RemediationSpec

    assert set(CHANGES) | {"approval"} == {field.alias for field in RemediationSpec.model_fields.values()}
    name = stage.waiting("fixed")
    approval = {"decision": "Approved", "by": "approver"}
    for field, value in CHANGES.items():
        said = stage.patched("approver", name, {"spec": {field: value, "approval": approval}})
        assert "unchanging" in said, field
    assert "approval" not in stage.spec(name)


def test_a_person_asks_in_the_own_name(stage: Stage):
    asked = BY_HAND | {"requestedBy": "on-call"}
    assert "created" in stage.created("on-call", remediation("mine", asked))
    debug_logs = {"debugLogs": {"podSelector": {"matchLabels": {"app": "core"}}}}
    nobodys = BY_HAND | {"action": debug_logs, "revert": CHANGES["revert"]}
    for spec in (BY_HAND | {"requestedBy": "edit"}, nobodys):
        said = stage.created("on-call", remediation("not-mine", spec))
        assert "spec.requestedBy must be on-call, who asks for it" in said
    assert "cannot create" in stage.created("edit", remediation("edited", BY_HAND | {"requestedBy": "edit"}))


def test_a_person_is_no_rule(stage: Stage):
    said = stage.created("on-call", remediation("ruled", BY_RULE | {"requestedBy": "on-call"}))
    assert "only the operator follows a rule" in said


@pytest.mark.parametrize("user", ["on-call", "operator"])
def test_what_is_asked_for_is_not_approved_with_it(stage: Stage, user: str):
    approval = {"decision": "Approved", "by": user}
    said = stage.created(user, remediation("early", BY_HAND | {"requestedBy": user, "approval": approval}))
    assert "nobody approves what is only being asked for" in said


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "uid-9"}]},
            "belongs to nobody",
        ),
        ({"finalizers": ["example.com/stays"]}, "keeps a Remediation from being deleted"),
    ],
)
def test_no_record_is_made_to_vanish_or_to_stay(stage: Stage, metadata: Object, told: str):
    name = stage.waiting("kept")
    assert told in stage.patched("approver", name, {"metadata": metadata})
    asked = remediation("asked", BY_HAND | {"requestedBy": "on-call"}, **metadata)
    assert told in stage.created("on-call", asked)
    mine = stage.waiting("the-operators", **metadata)
    assert "patched" in stage.approved("approver", mine), "what was there before is not the approver's doing"


def test_nobody_who_is_no_cluster_admin_deletes_records(stage: Stage):
    name = stage.waiting("record")
    for user in (*ROLES, "operator", "writer"):
        assert "cannot delete" in stage.tried(user, "delete", "remediation", name)


def without(objects: list[Object], index: int) -> list[Object]:
    """The admission policy without one of its validations."""
    (policy,) = of_kind(objects, POLICY[0])
    spec = policy["spec"]
    kept = [one for place, one in enumerate(spec["validations"]) if place != index]
    return [policy | {"spec": spec | {"validations": kept}}]


def test_the_columns_read_like_a_log(stage: Stage):
    name = stage.waiting("logged")
    head, *lines = stage.tried("view", "get", "remediations").splitlines()
    (line,) = [one for one in lines if one.startswith(name)]
    assert head.split() == ["NAME", "PHASE", "ACTION", "TARGET", "RULE", "COMPONENT", "REASON", "AGE"]
    assert line.split()[:2] == [name, "Pending"]
    assert line.split()[2:-1] == ["core-0", "restart", "core", "CrashLoopBackOff"]


PASSES: list[Callable[[Stage], str]] = [
    lambda s: s.created(
        "on-call",
        remediation(
            secrets.token_hex(4),
            BY_HAND | {"requestedBy": "on-call", "approval": {"decision": "Approved", "by": "on-call"}},
        ),
    ),
    lambda s: s.approved("writer", s.waiting("b")),
    lambda s: s.approved("approver", s.waiting("c"), by="edit"),
    lambda s: s.created("on-call", remediation(secrets.token_hex(4), BY_HAND | {"requestedBy": "edit"})),
    lambda s: s.created("on-call", remediation(secrets.token_hex(4), BY_RULE | {"requestedBy": "on-call"})),
    lambda s: s.patched(
        "approver",
        s.waiting("f"),
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]}},
    ),
    lambda s: s.patched("approver", s.waiting("g"), {"metadata": {"finalizers": ["example.com/stays"]}}),
]


@pytest.mark.parametrize("index", range(len(PASSES)))
def test_each_guard_is_needed(stage: Stage, control_plane: ControlPlane, admission: list[Object], index: int):
    """Without it, what the tests above see refused is let through."""
    (policy,) = of_kind(admission, POLICY[0])
    assert len(PASSES) == len(policy["spec"]["validations"])
    apply(control_plane, without(admission, index))

    def let_through() -> bool:
        said = PASSES[index](stage)
        return "created" in said or "patched" in said

    try:
        wait_until(let_through, 30.0, "it is let through without its guard")
    finally:
        apply(control_plane, admission)
        wait_until(lambda: not let_through(), 30.0, "the guard is back")
