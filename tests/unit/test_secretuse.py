"""What a Secret's owner allows, and the messages that say how to grant what is not allowed."""

from __future__ import annotations

import shlex

import pytest

from backendhealth.core import secretuse
from backendhealth.core.observation import MAX_MESSAGE, clip
from backendhealth.core.secretuse import ALLOW, ALLOW_HOSTS, Grant, grant_of

LONG = ("n" * 63, "s" * 253, "b" * 253)


def line(message: str) -> list[str]:
    """The words of the command in a message."""
    return shlex.split(message.split("`")[1])


# Names


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [
        ("placeos", True),
        ("other, placeos ,", True),
        ("*", True),
        ("other,*", True),
        (None, False),
        ("", False),
        ("other", False),
        ("place*", False),
        ("placeos2", False),
        ("PlaceOS", False),
        ("other placeos", False),
    ],
)
def test_names(allow: str | None, allowed: bool):
    annotations = {} if allow is None else {ALLOW: allow}
    assert grant_of(annotations).allows("placeos") is allowed


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [
        ("remediationpolicy/placeos", True),
        ("placeos, remediationpolicy/placeos", True),
        ("remediationpolicy/*", True),
        ("remediationpolicy/other", False),
        ("*", False),  # all BackendHealths: who looks is not who acts
        ("placeos", False),
        ("*/*", False),
    ],
)
def test_a_policy_is_allowed_as_one(allow: str, allowed: bool):
    assert grant_of({ALLOW: allow}).allows(secretuse.policy("placeos")) is allowed


@pytest.mark.parametrize("allow", ["remediationpolicy/placeos", "remediationpolicy/*"])
def test_what_a_policy_is_allowed_is_no_backendhealths(allow: str):
    assert not grant_of({ALLOW: allow}).allows("placeos")


def test_a_policy_is_told_by_its_kind():
    told = secretuse.not_allowed("place", "admin", Grant(("placeos",), None), secretuse.policy("placeos"))
    assert "does not allow RemediationPolicy placeos to use it" in told
    assert line(told)[-1] == f"{ALLOW}=placeos,remediationpolicy/placeos"


# Hosts


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        (None, "anything", True),
        ("*", "anything", True),
        ("*", "10.0.0.1", True),
        ("redis,*.db.svc", "redis", True),
        ("redis,*.db.svc", "REDIS.", True),
        ("redis, *.db.svc", "a.b.db.svc", True),
        ("redis", "redis.evil.test", False),
        ("*.db.svc", "db.svc.evil.test", False),
        ("*.db.svc", "db.svc", False),
        ("", "redis", False),
        (" , ", "redis", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "10.evil.test", False),
        ("10.*", "10.evil.test", False),
        ("10.*", "10.1.2.3", False),
        ("fd00::/8,::1", "::1", True),
        ("::1", "[::1]", True),
        ("*1", "10.0.0.1", False),
        ("not a host!,redis", "redis", True),
    ],
)
def test_hosts(hosts: str | None, host: str, allowed: bool):
    annotations = {} if hosts is None else {ALLOW_HOSTS: hosts}
    assert grant_of(annotations).allows_host(host) is allowed


# Lines


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (None, [f"{ALLOW}=placeos"]),
        ((), ["--overwrite", f"{ALLOW}=placeos"]),
        (("old", "older"), ["--overwrite", f"{ALLOW}=old,older,placeos"]),
    ],
)
def test_names_that_are_there_are_kept(names: tuple[str, ...] | None, options: list[str]):
    message = secretuse.not_allowed("ns", "redis", Grant(names, None), "placeos")
    assert message.startswith("the owner of Secret redis does not allow BackendHealth placeos to use it: `")
    assert line(message) == ["kubectl", "-n", "ns", "annotate", "secret", "redis", *options]


def test_what_an_annotation_holds_never_gets_into_the_shell():
    grant = Grant(("$(id)", "a;b", "old", "x`y`"), ("*.svc", "h'h", "&& id"))
    assert line(secretuse.not_allowed("ns", "s", grant, "placeos"))[-1] == f"{ALLOW}=old,placeos"
    assert line(secretuse.host_not_allowed("ns", "s", grant, "Redis."))[-1] == f"{ALLOW_HOSTS}=*.svc,redis"


@pytest.mark.parametrize("host", ["a`id`b", "$(id)", "a b", "x" * 300, "a\nb"])
def test_what_a_server_calls_a_host_gets_into_no_line(host: str):
    message = secretuse.host_not_allowed("ns", "s", Grant(("*",), ("redis",)), host)
    assert host not in message
    assert "`" not in message


def test_a_long_annotation_is_edited():
    grant = Grant(tuple(f"name-{number}" for number in range(100)), None)
    message = secretuse.not_allowed("ns", "s", grant, "placeos")
    assert message.endswith(f"`kubectl -n ns edit secret s` and add placeos to `{ALLOW}`")


def test_the_account_is_asked_for():
    message = secretuse.no_account("ns", "placeos", "redis")
    assert "set spec.serviceAccountName" in message
    assert line(message)[3:] == [
        *("patch", "backendhealth", "placeos", "--type=merge", "-p"),
        '{"spec":{"serviceAccountName":"backendhealth"}}',
    ]


def test_the_roles_of_different_grants_have_different_names():
    messages = [
        secretuse.may_not_read("ns", "sa", "redis"),
        secretuse.may_not_read("ns", "sa", "redis2"),
        secretuse.may_not_read("ns", "sa2", "redis"),
        secretuse.may_not_read("ns", "s" * 60, "redis"),
        secretuse.may_not_read("ns", "s" * 61, "redis"),
        secretuse.may_not_impersonate("ns", "sa", "system:serviceaccount:op:backendhealth"),
        secretuse.may_not_impersonate("ns", "sa", "system:serviceaccount:op2:backendhealth"),
        secretuse.may_not_impersonate("ns", "sa2", "system:serviceaccount:op:backendhealth"),
        secretuse.may_not_impersonate("ns", "sa", "Jane Doe"),
    ]
    assert len({line(message)[5] for message in messages}) == len(messages)


def test_a_person_is_bound_as_a_user():
    assert "--user=Jane Doe" in line(secretuse.may_not_impersonate("ns", "sa", "Jane Doe"))


@pytest.mark.parametrize(
    "message",
    [
        secretuse.not_allowed(LONG[0], LONG[1], Grant(("o" * 253,), None), LONG[2]),
        secretuse.host_not_allowed(LONG[0], LONG[1], Grant(("*",), ("o" * 253,)), "h" * 253),
        secretuse.no_account(LONG[0], LONG[2], LONG[1]),
        secretuse.may_not_impersonate(LONG[0], LONG[1], f"system:serviceaccount:{LONG[0]}:{LONG[2]}"),
        secretuse.may_not_read(LONG[0], LONG[1], LONG[2]),
    ],
)
def test_the_longest_names_leave_the_line_whole(message: str):
    assert clip(message) == message
    assert len(message) <= MAX_MESSAGE
    assert message.endswith("`")
    assert line(message)[:3] == ["kubectl", "-n", LONG[0]]
