"""The lines that grant what was refused."""

from __future__ import annotations

import shlex

from backendhealth.core.grants import grant, remedy

REFUSED = (
    'backendhealths.backendhealth.dev "a" is forbidden: User "system:serviceaccount:ops:bh" cannot update resource'
    ' "backendhealths/status" in API group "backendhealth.dev" in the namespace "shop"'
)


def test_what_was_refused_is_what_is_granted():
    assert remedy("shop", REFUSED) == (
        "; to grant it: kubectl -n shop create role ops.bh-update-backendhealths.backendhealth.dev-status --verb=update"
        " --resource=backendhealths.backendhealth.dev/status;"
        " kubectl -n shop create rolebinding ops.bh-update-backendhealths.backendhealth.dev-status"
        " --role=ops.bh-update-backendhealths.backendhealth.dev-status --serviceaccount=ops:bh"
    )


def test_more_verbs_where_one_is_not_enough_and_no_group_in_the_core_one():
    message = 'pods is forbidden: User "jo" cannot list resource "pods" in API group "" in the namespace "shop"'
    assert " --verb=list,watch --resource=pods;" in remedy("shop", message, "list,watch")
    assert remedy("shop", message).endswith(" --user=jo")


def test_other_refusals_have_none():
    assert remedy("shop", "denied by a webhook") == ""


def test_a_user_can_not_smuggle_a_command_in():
    line = remedy("shop", REFUSED.replace("system:serviceaccount:ops:bh", "x; rm -rf $HOME"))
    assert shlex.split(line)[-1] == "--user=x; rm -rf $HOME"


def test_roles_that_grant_different_things_have_different_names():
    def role(*what: str) -> str:
        return grant("shop", *what).split()[5]

    names = {role("jo", "get", "secrets", "a"), role("jo", "get", "secrets", "b"), role("li", "get", "secrets", "a")}
    assert len(names) == 3
    long = {role("jo", "get", "secrets", letter * 253) for letter in "ab"}
    assert len(long) == 2
    assert max(map(len, long)) <= 63
