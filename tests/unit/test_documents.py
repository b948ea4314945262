"""Reading: files, folders, standard input, lists; every place known; nothing costs more than it should."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.cli.documents import MAX_BYTES, FileProblem, read_all
from backendhealth.cli.load import KINDS, load
from backendhealth.cli.main import main
from backendhealth.cli.scalars import resolve
from backendhealth.cli.yamltree import MAX_FAULTS, parse

PLANTED = "pl4nted-s3cret"
GOOD = """\
apiVersion: backendhealth.dev/v1alpha1
kind: BackendHealth
metadata: {name: NAME}
spec:
  probes:
    - {name: tcp, tcp: {host: h, port: 1}}
"""


def good(name: str) -> str:
    return GOOD.replace("NAME", name)


def rules(problems: list[FileProblem]) -> list[str]:
    return [problem.rule for problem in problems]


def names(*paths: Path | str) -> list[str]:
    loaded = load([str(path) for path in paths])
    assert loaded.problems == []
    return [resource.metadata.name for resource in loaded.resources]


def test_folders_are_read_whole_in_order_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/z.yml", "a/c.json", "skipped.txt", ".hidden.yaml", ".git/x.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        stem = path.stem.strip(".")
        path.write_text(good(stem) if path.suffix != ".json" else json.dumps(parse(good(stem))[0][0].raw))
    assert names(tmp_path) == ["c", "z", "b"]
    assert names(tmp_path / "b.yaml", tmp_path) == ["b", "c", "z"]  # once, though named twice


def test_a_folder_without_files_is_a_problem(tmp_path: Path) -> None:
    assert rules(load([str(tmp_path)]).problems) == ["no-files"]


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (problem,) = load([str(tmp_path / "absent.yaml")]).problems
    assert (problem.rule, problem.message) == ("unreadable", "can't be read: No such file or directory")
    assert str(problem) == f"{tmp_path / 'absent.yaml'}: [unreadable] can't be read: No such file or directory"


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, good("one").encode() + b"---\n" + good("two").encode())
    assert names("-") == ["one", "two"]


def test_endless_input_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stdin(monkeypatch, b"#" * (MAX_BYTES + 1))
    assert rules(load(["-"]).problems) == ["too-large"]
    assert rules(load(["/dev/zero"]).problems) == ["too-large"]
    full = tmp_path / "full.yaml"
    full.write_text(good("full") + "#" * (MAX_BYTES - len(good("full"))))
    assert names(full) == ["full"]


def test_pipes_are_read() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as end:
        end.write(good("piped"))
    assert names(f"/dev/fd/{reader}") == ["piped"]
    os.close(reader)


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_text(good("bom"), encoding="utf-8-sig")
    assert names(tmp_path) == ["bom"]


def test_lists_hold_resources(tmp_path: Path) -> None:
    items = [parse(good(name))[0][0].raw for name in ("one", "two")]
    nested = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "List", "items": items}]}
    (tmp_path / "list.json").write_text(json.dumps(nested))
    assert names(tmp_path) == ["one", "two"]


def test_what_is_not_ours_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "values.yaml").write_text("replicas: 3\n")
    (tmp_path / "deployment.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {a: {}}\n"
    )
    assert load([str(tmp_path)]).problems == []
    assert main(["lint", str(tmp_path)]) == 2
    assert f"[no-resource] no {' or '.join(KINDS)} in" in capsys.readouterr().out


def test_places_are_those_of_keys_and_items() -> None:
    (tree,), faults = parse("# head\na:\n  - x\n  - {b: 1,\n     c: [2, 3]}\n")
    assert not faults
    assert tree.raw == {"a": ["x", {"b": 1, "c": [2, 3]}]}
    documents, _ = read_all([str(Path(__file__).parent.parent / "good" / "several-documents.yaml")])
    first = documents[2]
    assert first.place(("spec", "probes", 1, "interval")) == (27, 7)
    assert first.place(("spec", "probes", 1, "redis", "url")) == (24, 15)  # merged: where it really stands
    assert first.place(("spec", "nothing", "here")) == (20, 1)
    assert first.place(("spec", "probes", 7)) == (21, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("y", "Y", "yes", "Yes", "on", "ON", "true", "True")),
        *((text, False) for text in ("n", "N", "no", "NO", "off", "Off", "false", "FALSE")),
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        *((text, text) for text in ("yEs", "tRue", "1:30", "2001-01-01", "5s", "0b12", "_1", "inf", "1.2.3", "1e400")),
        ("010", 8),
        ("08", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("+5", 5),
        ("-010", -8),
        ("30.0", 30),
        ("1e3", 1000),
        (".5", 0.5),
        ("-.5e3", -500),
        ("9223372036854775808", 9223372036854775808),
        ("9" * 30, 1e30),
    ],
)
def test_scalars_are_what_kubectl_takes_them_for(text: str, value: Any) -> None:
    resolved = resolve(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_keys_are_text_as_in_json() -> None:
    (tree,), _ = parse("1: a\ntrue: b\n~: c\n'on': d\n1.50: e\n\"<<\": {f: g}\n")
    assert tree.raw == {"1": "a", "true": "b", "null": "c", "on": "d", "1.5": "e", "<<": {"f": "g"}}


def test_merges_give_way_to_what_is_written() -> None:
    (tree,), _ = parse("a: &a {p: 1, q: 2}\nb: &b {q: 3, r: 4}\nc: {q: 5, <<: [*a, *b]}\nd: {<<: *b}\n")
    assert tree.raw["c"] == {"q": 5, "p": 1, "r": 4}
    assert tree.raw["d"] == {"q": 3, "r": 4}
    _, (fault,) = parse("a: {<<: 5}")
    assert (fault.rule, fault.message) == ("yaml-syntax", "<< takes a mapping or a list of them")


def test_json_escapes_are_joined() -> None:
    text = r'{"a": "\ud83d\ude00", "b": "\\ud83d", "c": "\/"}'
    (tree,), _ = parse(text)
    assert tree.raw == json.loads(text)


def test_one_broken_document_does_not_hide_the_others() -> None:
    trees, faults = parse("a: 1\n---\nb: [\n---\nc: 3\n---\n\td: 4\n---\ne: 5\n")
    assert [tree.raw for tree in trees] == [{"a": 1}, {"c": 3}, {"e": 5}]
    assert [fault.line for fault in faults] == [4, 7]
    assert [tree.root.line for tree in trees] == [1, 5, 9]


def test_faults_are_counted_out() -> None:
    trees, faults = parse("---\n[\n" * 10_000)
    assert not trees
    assert len(faults) == MAX_FAULTS


PIECES = (
    *(
        "- ",
        ": ",
        "? ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\n  ",
        "\t",
        "'",
        '"',
        "|\n",
        ">-\n",
        "#",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
    ),
    *(
        "&a ",
        "*a",
        "<<: *a\n",
        "!!str ",
        "!x ",
        "!<y> ",
        "\\u0000",
        "\\ud800",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
        "\ud800",
        "é",
        "😀",
    ),
    *(
        "kind: List\nitems:\n- ",
        "apiVersion: v1\nkind: Secret\n",
        "data: ",
        "stringData: ",
        "null",
        "~",
        "0x",
        "1_",
        ".",
        "1e999",
        "=",
        "<<",
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1), st.lists(st.tuples(st.sampled_from(PIECES), st.integers(0, 500)), max_size=8), st.booleans())
def test_whatever_the_text_reading_answers(start: int, inserted: list[tuple[str, int]], raw: bool) -> None:
    text = (good("x") + "---\n" + good("y")) if start else ""
    for piece, at in inserted:
        text = text[:at] + piece + text[at:]
    content = text.encode("utf-8", "surrogatepass") if raw else text.encode("utf-8", "replace")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_bytes(content)
        loaded = load([str(path)])
    lines = len(re.split("\r\n|[\n\r\x85\u2028\u2029]", content.decode("utf-8", "replace")))
    assert all(0 <= problem.line <= lines + 1 and problem.rule and problem.message for problem in loaded.problems)


@pytest.mark.parametrize(
    "text",
    [
        f"a: *{PLANTED}\n",
        f"a: !{PLANTED} x\n",
        f"a: !{PLANTED}! x\n",
        f"a: !<{PLANTED}> x\n",
        f"%{PLANTED}\n---\na: 1\n",
        f"a: '{PLANTED}\n",
        f'a: "{PLANTED}\\q"\n',
        f"a: {PLANTED}: b\n",
        f"a: @{PLANTED}\n",
        f"a: `{PLANTED}`\n",
        f"? {{{PLANTED}: 1}}\n: 2\n",
        f"{PLANTED}\x00\n",
    ],
)
def test_no_fault_quotes_what_may_be_a_secret(text: str) -> None:
    trees, faults = parse(text)
    faults += [fault for tree in trees for fault in tree.faults]
    assert faults
    assert PLANTED not in repr([(fault.rule, fault.message) for fault in faults])


def test_secrets_are_decoded_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: team}\n"
        "data: {a: cGw0bnRlZC1zM2NyZXQ=, broken: 'pl4nted-s3cret!', none: null}\n"
        "stringData: {b: pl4nted-s3cret, number: 4711}\n"
    )
    loaded = load([str(file)])
    assert loaded.secrets == {("team", "s"): {"a": PLANTED.encode(), "b": PLANTED.encode(), "none": b""}}
    assert [(problem.path, problem.rule, problem.line) for problem in loaded.problems] == [
        ("data.broken", "base64", 4),
        ("stringData.number", "type", 5),
    ]
    assert PLANTED not in repr(loaded)
    assert "4711" not in repr(loaded)


def test_a_key_that_is_no_name_is_not_shown(tmp_path: Path) -> None:
    """A URL with a space after its colon is a key, and may hold a password."""
    file = tmp_path / "key.yaml"
    file.write_text(good("x").replace("{host: h, port: 1}", f'{{host: h, port: 1, "redis://:{PLANTED}@redis": 6379}}'))
    (problem,) = load([str(file)]).problems
    assert (problem.path, problem.rule) == ("spec.probes[0].tcp.?", "unknown-field")
    assert PLANTED not in repr(problem)


def test_the_same_resource_in_two_files_is_told_with_both(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(good("twin"))
    loaded = load([str(tmp_path)])
    (problem,) = loaded.problems
    assert problem.rule == "duplicate-resource"
    assert problem.source == str(tmp_path / "b.yaml")
    assert f"{tmp_path / 'a.yaml'}, line 1" in problem.message
    assert len(loaded.resources) == 1
    other = good("twin").replace("{name: twin}", "{name: twin, namespace: other}")
    (tmp_path / "b.yaml").write_text(other)
    assert names(tmp_path) == ["twin", "twin"]


def test_lint_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(good("a") + "---\n" + good("b"))
    assert main(["lint", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no problems in 2 resources, 1 file read\n"
    (tmp_path / "b.yaml").write_text(good("C") + "  interval: 5\n")
    assert main(["lint", str(tmp_path / "b.yaml")]) == 2
    out = capsys.readouterr().out.splitlines()
    file = tmp_path / "b.yaml"
    name = "must be lower-case letters, digits and dashes, with a letter or digit at both ends, and dots"
    interval = "must be text, not a number: a duration has a unit, e.g. 30s"
    assert out == [
        f'{file}:3:12: metadata.name: [pattern] {name} (did you mean "c"?)',
        f'{file}:7:3: spec.interval: [type] {interval} (did you mean "5s"?)',
        "2 problems in 1 resource, 1 file read",
    ]
    assert main(["lint", "-o", "json", str(tmp_path / "b.yaml")]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["resources"], told["files"], len(told["problems"])) == (1, 1, 2)
    assert told["problems"][1] == {
        "source": str(tmp_path / "b.yaml"),
        "line": 7,
        "column": 3,
        "path": "spec.interval",
        "rule": "type",
        "message": "must be text, not a number: a duration has a unit, e.g. 30s",
        "suggestion": "5s",
    }


def test_nothing_in_a_line_moves_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "red\x1b[31m.yaml"
    file.write_text(good("x").replace("port: 1", 'port: 1, expect: "(\\e[31m\\n"'))
    assert main(["lint", str(file)]) == 2
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2
    assert "[regex] not an RE2 expression" in out
