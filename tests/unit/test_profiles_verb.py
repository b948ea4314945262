"""`backendhealth profiles`, and what lint says of names in profiles and of profiles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendhealth import profiles
from backendhealth.cli.load import load
from backendhealth.cli.main import main
from backendhealth.cli.pictures import dot, mermaid
from backendhealth.core.spec.profile import DiagnosisProfile
from backendhealth.core.validate import validate_profile
from hack.generate import ROOT
from tests.unit.profilemaking import component, profile

EXAMPLE = str(ROOT / "examples" / "profile.yaml")
Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *arguments: str) -> str:
    assert main(["profiles", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys: Capture, *arguments: str) -> str:
    assert main(["profiles", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def made(**spec: Any) -> DiagnosisProfile:
    found, problems = validate_profile(profile(**spec))
    assert found, problems
    return found


def test_the_list(capsys: Capture):
    rows = [re.split(r"\s{3,}", line) for line in printed(capsys).splitlines()]
    assert rows[0] == ["NAME", "TITLE"]
    assert rows[1:] == [[name, profiles.built_in(name).spec.title] for name in profiles.names()]


def test_the_list_of_files(capsys: Capture):
    assert printed(capsys, "-f", EXAMPLE).splitlines()[1:] == ["shop   The shop"]


@pytest.mark.parametrize("name", profiles.names())
def test_printed_yaml_is_the_profile(name: str, capsys: Capture, tmp_path: Path):
    (tmp_path / "printed.yaml").write_text(printed(capsys, name, "-o", "yaml"), encoding="utf-8")
    loaded = load([str(tmp_path)])
    assert loaded.problems == []
    assert loaded.profiles == [profiles.built_in(name)]


def test_all_as_yaml(capsys: Capture):
    objects = list(yaml.safe_load_all(printed(capsys, "-o", "yaml")))
    assert [one["metadata"]["name"] for one in objects] == list(profiles.names())


def test_one_as_a_table(capsys: Capture):
    text = printed(capsys, "-f", EXAMPLE, "shop")
    assert text.startswith("shop: The shop\nShop 3: orders in PostgreSQL")
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    assert ["web", "database, redis", "checkout, login, browsing"] in rows
    assert ["2", "Can you log in?", "redis, database, web"] in rows


def test_one_without_anything_as_a_table(capsys: Capture):
    assert printed(capsys, "generic").startswith("generic: Any platform\nKnows no platform:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("placeos-rethinkbd",), 'there is no profile placeos-rethinkbd: did you mean "placeos-rethinkdb"?'),
        (("mine",), "there is no profile mine: there are generic, placeos-postgres"),
        (("mine", "-f", EXAMPLE), "there is no profile mine: there are shop"),
        (("-o", "dot"), "-o dot draws one profile: name it"),
        (("-f", str(ROOT / "tests" / "bad" / "profile-self-dependency.yaml")), "[self-dependency]"),
    ],
)
def test_what_can_not_be_printed(arguments: tuple[str, ...], said: str, capsys: Capture):
    assert said in refused(capsys, *arguments)


def test_the_picture_for_mermaid(capsys: Capture):
    lines = printed(capsys, "placeos-rethinkdb", "-o", "mermaid").splitlines()
    assert lines[0] == "flowchart LR"
    assert '  c_search_ingest["search-ingest"]' in lines
    assert "  c_search_ingest --> c_elasticsearch" in lines
    assert "  s_login -. no .-> c_rethinkdb" in lines
    spec = profiles.built_in("placeos-rethinkdb").spec
    edges = sum(len(one.depends_on) for one in spec.components)
    assert sum("-->" in line for line in lines) == edges
    assert len(lines) == 1 + len(spec.components) + edges + 2 * len(spec.symptoms)


def test_the_picture_for_graphviz(capsys: Capture):
    lines = printed(capsys, "placeos-rethinkdb", "-o", "dot").splitlines()
    assert (lines[0], lines[-1]) == ('digraph "placeos-rethinkdb" {', "}")
    assert '  "component/api" -> "component/etcd";' in lines
    assert '  "symptom/login" -> "component/rethinkdb" [style=dotted, label="no"];' in lines


def test_titles_break_no_picture():
    nasty = '"]; click <b>#1</b> & `x` \\'
    symptom = {"name": "end", "question": nasty, "implicates": ["end"]}
    one = made(components=[component("end") | {"title": nasty}], symptoms=[symptom])
    escaped = "#34;]#59; click #60;b#62;#35;1#60;/b#62; #38; #96;x#96; #92;"
    assert mermaid(one).splitlines() == [
        "flowchart LR",
        f'  c_end["{escaped}"]',
        f'  s_end(["{escaped}"])',
        "  s_end -. no .-> c_end",
    ]
    assert '  "component/end" [label="\\"]; click <b>#1</b> & `x` \\\\"];' in dot(one).splitlines()


def test_the_pictures_in_the_docs_are_those_that_are_printed():
    page = (ROOT / "docs" / "reference" / "profiles.md").read_text(encoding="utf-8")
    for name in profiles.names():
        if profiles.built_in(name).spec.components:
            assert f"```mermaid\n{mermaid(profiles.built_in(name))}```" in page


def lint(capsys: Capture, tmp_path: Path, *documents: dict[str, Any]) -> list[tuple[str, str]]:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    main(["lint", str(tmp_path)])
    found = re.findall(r"(\S+): \[([-a-z]+)\]", capsys.readouterr().out)
    return [(path, rule) for path, rule in found]


def health(ref: dict[str, str] | None, *components: str, namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "platform", "namespace": namespace},
        "spec": {
            "probes": [{"name": name, "tcp": {"host": name, "port": 1}} for name in components],
            **({"profileRef": ref} if ref else {}),
        },
    }


@pytest.mark.parametrize(
    ("ref", "components", "paths"),
    [
        ({"builtIn": "placeos-rethinkdb"}, ("rethinkdb", "printer", "etcd-0", "redis2", "websocket-new"), []),
        (
            {"builtIn": "placeos-rethinkdb"},
            ("rethink", "frontendloader"),
            ["spec.probes[0].name", "spec.probes[1].name"],
        ),
        ({"builtIn": "generic"}, ("rethink",), []),
        (None, ("rethink",), []),
        ({"name": "mine"}, ("database", "databases"), ["spec.probes[1].name"]),
        ({"name": "minee"}, ("databases",), ["spec.profileRef.name"]),
        ({"name": "somebody-elses"}, ("databases",), []),
        ({"builtIn": "mine"}, ("databases",), ["spec.profileRef.builtIn"]),
    ],
)
def test_slips_in_names(
    ref: dict[str, str] | None, components: tuple[str, ...], paths: list[str], capsys: Capture, tmp_path: Path
):
    mine = profile(components=[component("database")])
    assert [path for path, _ in lint(capsys, tmp_path, mine, health(ref, *components))] == paths


def test_a_profile_of_another_namespace_is_another(capsys: Capture, tmp_path: Path):
    mine = profile(components=[component("database")])
    assert lint(capsys, tmp_path, mine, health({"name": "mine"}, "databases", namespace="other")) == []


def test_check_needs_a_built_in_profile_that_there_is(capsys: Capture, tmp_path: Path):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(health({"builtIn": "placeos"}, "redis")), encoding="utf-8")
    assert main(["check", "-f", str(tmp_path / "one.yaml")]) == 2
    assert "[unknown-profile]" in capsys.readouterr().err


def test_profiles_are_loaded_beside_resources():
    loaded = load([EXAMPLE])
    assert [one.key for one in loaded.profiles] == ["shop/shop"]
    assert [one.key for one in loaded.resources] == ["shop/shop"]
    assert loaded.seen == 2
