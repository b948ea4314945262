"""Which profile is in force, and what is said while it is not the one that is named."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth import profiles
from backendhealth.core.knowledge import NOTHING_KNOWN, Knowledge
from backendhealth.core.profileref import ProfileUnusableError, knowledge_of, not_there, not_usable
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.validate import Problem
from tests.unit.support import probe, resource

SHOP = DiagnosisProfileSpec(title="A shop")


def find(namespace: str, name: str) -> DiagnosisProfileSpec:
    there = {("a", "shop"): SHOP}
    if (namespace, name) not in there:
        raise not_there(namespace, name, [known for space, known in there if space == namespace], profiles.names())
    return there[namespace, name]


def known(namespace: str = "a", before: Knowledge | None = None, **ref: Any) -> Knowledge:
    spec: dict[str, Any] = {"profileRef": ref} if ref else {}
    return knowledge_of(resource(probe("x"), namespace=namespace, **spec), profiles.spec_of, find, before)


def test_the_one_that_is_named():
    assert known() == NOTHING_KNOWN
    assert known(name="shop") == Knowledge(SHOP)
    assert known(builtIn="generic") == Knowledge(profiles.built_in("generic").spec)


@pytest.mark.parametrize(
    ("namespace", "ref", "told"),
    [
        ("a", {"name": "shops"}, 'there is no DiagnosisProfile shops in namespace a: did you mean "shop"?'),
        ("b", {"name": "shop"}, "there is no DiagnosisProfile shop in namespace b"),
        ("a", {"name": "generic"}, "profileRef: {builtIn: generic}"),
        ("a", {"builtIn": "genric"}, 'did you mean "generic"?'),
    ],
)
def test_none_of_that_name(namespace: str, ref: dict[str, Any], told: str):
    found = known(namespace, **ref)
    assert (found.profile, found.problem) == (NOTHING_KNOWN.profile, Reason.PROFILE_NOT_FOUND)
    assert told in found.message
    assert found.message.endswith("; until then nothing is known of the platform")


def test_the_last_good_one_stays_and_is_named():
    found = known(before=Knowledge(SHOP), name="gone")
    assert found.profile is SHOP
    assert found.message.endswith("; the last good one (A shop) stays in force")
    assert known(before=found, name="gone") == found
    assert known(before=found, name="shop") == Knowledge(SHOP)
    assert known(before=found) == NOTHING_KNOWN


def test_what_is_wrong_is_told_by_its_path_and_the_remedy_comes_last():
    problems = [Problem(("spec", "components", n, "name"), "required", "set it") for n in range(5)]
    error = not_usable("shop", problems)
    assert error.reason is Reason.PROFILE_INVALID
    assert "spec.components[0].name: set it; spec.components[1].name: set it;" in error.message
    assert error.message.endswith("; and 2 more")

    def refused(_namespace: str, _name: str) -> DiagnosisProfileSpec:
        raise ProfileUnusableError(Reason.PROFILE_NOT_FOUND, "can't be seen", "; to grant it: kubectl …")

    found = knowledge_of(resource(probe("x"), profileRef={"name": "shop"}), profiles.spec_of, refused)
    assert found.message.endswith("; to grant it: kubectl …")
