"""`backendhealth triage` as a user runs it: without anything, with files, with a cluster, by hand and in a script."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendhealth.cli.asking import NotUnderstood, reply_of
from backendhealth.core.triage import Reply
from backendhealth.profiles import names
from tests.cli.support import ROOT, command, environment, redis_probe, refused_probe, resource, run
from tests.kube.operator import Resources
from tests.kube.writing import bare
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import free_port
from tests.servers.redis import RedisServer

PROFILE = ("--profile", "placeos-rethinkdb")
PROFILE_REF = {"builtIn": "placeos-rethinkdb"}


def told(*arguments: str | Path, stdin: str = "") -> tuple[int, dict[str, Any]]:
    """Exit code and the answer as JSON."""
    done = run("triage", "-o", "json", *arguments, stdin=stdin)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def suspects(shown: dict[str, Any]) -> list[str]:
    return [one["component"] for one in shown["diagnosis"].get("suspects", [])]


def causes(shown: dict[str, Any]) -> list[str]:
    return [one["component"] for one in shown["diagnosis"].get("rootCauses", [])]


def answers(shown: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Answer and who gave it, of the questions that have one."""
    return {one["symptom"]: (one["answer"], one["by"]) for one in shown["questions"] if "answer" in one}


def test_line_by_line_from_a_pipe_with_no_probe_and_no_cluster():
    code, shown = told(*PROFILE, stdin="yes\nyes\nyes\nyes\nno\nno core instances\n")
    assert code == 1
    assert suspects(shown)[:2] == ["core", "etcd"]
    assert shown["questions"][4] == {
        "symptom": "execute",
        "question": "Does executing a function work from Backoffice?",
        "answer": "no",
        "by": "person",
        "error": "no core instances",
    }
    assert "answer" not in shown["questions"][5]


def test_an_error_text_is_a_no():
    code, shown = told(*PROFILE, stdin="y\ny\ny\ny\nunable to connect to etcd\n")
    assert (code, suspects(shown)[0]) == (1, "etcd")


def test_answers_given_beforehand_are_not_asked():
    done = run(
        "triage", *PROFILE, "--answer", "login=no", "--answer", "reach=yes", "--answer", "execute=no core instances"
    )
    assert done.returncode == 1
    assert "Can you log in?" not in done.stderr
    assert "What does the error say?" in done.stderr
    assert "Suspected: core: symptom/execute says so" in done.stdout


def test_the_end_of_the_input_ends_with_what_is_known():
    code, shown = told(*PROFILE, stdin="yes\n")
    assert (code, shown["diagnosis"], answers(shown)) == (3, {}, {"reach": ("yes", "person")})


def test_all_well_exits_0():
    done = run("triage", *PROFILE, stdin="y\n" * 8)
    assert (done.returncode, done.stdout) == (0, "Nothing is known to be wrong.\n")


def test_who_does_not_know_gets_no_all_clear():
    done = run("triage", *PROFILE, stdin="y\n?\n" + "y\n" * 6)
    assert done.returncode == 3
    assert "login: Can you log in?" in done.stdout
    assert "systems:" not in done.stdout


def test_a_slip_of_the_hand_is_asked_again():
    done = run("triage", *PROFILE, stdin="ye\nyes\nno\n\n")
    assert done.stderr.count("Do requests reach the API") == 2
    assert "Suspected: rethinkdb" in done.stdout


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Y", Reply(works=True)),
        ("No ", Reply(works=False)),
        ("don’t know", Reply(None)),  # noqa: RUF001 - as a keyboard of today writes it
        ("", Reply(None)),
        ("502", Reply(works=False, error="502")),
        ("no core instances", Reply(works=False, error="no core instances")),
    ],
)
def test_words_and_error_texts_are_told_apart(text: str, reply: Reply):
    assert reply_of(text) == reply


def test_what_is_too_short_for_an_error_is_refused():
    with pytest.raises(NotUnderstood, match="yes"):
        reply_of("ja")


def test_the_end_tells_what_users_notice_what_still_works_what_to_look_at_and_how_to_get_debug_logs():
    shown = run("triage", *PROFILE, "--answer", "login=no", stdin="yes\n\n").stdout
    flat = re.sub(r"\s+", " ", shown)
    assert "1. rethinkdb: RethinkDB, configuration database" in flat
    assert "If it is down, these fail: login, API requests" in flat
    assert "Still works: access to the platform, existing WebSockets" in flat
    assert "Look at: RethinkDB's own reason first" in flat
    assert "do requests reach the services?" in flat
    assert "`kill -USR1 PID` as root on the host, PID from `ps aux | grep api`" in flat
    assert "Still works: access to the platform\n" in shown  # measured; of what may fail as well nothing is claimed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "generic, placeos-postgres, placeos-postgres-etcd, placeos-rethinkdb"),
        (("--profile", "placeos-retinkdb"), 'did you mean "placeos-rethinkdb"?'),
        ((*PROFILE, "--answer", "logn=no"), 'did you mean "login"?'),
        ((*PROFILE, "--answer", "login"), "write SYMPTOM=ANSWER"),
        ((*PROFILE, "--answer", "login=ja"), "login=ja: answer with y"),
        (("-f", "/nonexistent.yaml"), "/nonexistent.yaml"),
        (("-f", "/dev/null"), "nothing in it"),
        (("-f", "/dev/null", "--context", "x"), "--context goes with --kubeconfig"),
        (("placeos", "--kubeconfig", "/nonexistent"), "Without a cluster: `backendhealth triage --profile P`"),
    ],
)
def test_bad_input_exits_2_and_says_what_to_do(arguments: tuple[str, ...], complaint: str):
    done = run("triage", *arguments, stdin="")
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def declare(folder: Path, *probes: dict[str, object], name: str = "demo", **spec: object) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(resource(*probes, name=name, **{"profileRef": PROFILE_REF, **spec}))
    return path


def test_a_cause_that_a_probe_finds_leaves_fewer_questions(tmp_path: Path):
    code, shown = told("-f", declare(tmp_path, refused_probe("redis")), stdin="yes\nyes\nyes\n")
    assert (code, causes(shown)) == (1, ["redis"])
    assert set(answers(shown)) == {"reach", "login", "systems"}
    assert shown["diagnosis"]["rootCauses"][0]["nextStep"].startswith("Redis's own reason first")


def test_what_a_probe_sees_to_work_is_no_suspect(tmp_path: Path):
    with RedisServer() as server:
        code, shown = told("-f", declare(tmp_path, redis_probe(server.port)), stdin="y\ny\ny\nno\n\n")
    assert code == 1
    # who can log in has reached the database
    assert suspects(shown) == ["api", "rethinkdb"]


def test_symptoms_that_probes_measure_are_told_and_not_asked(tmp_path: Path):
    probe: dict[str, object] = {"name": "api", "placeos": {"url": f"http://127.0.0.1:{free_port()}"}}
    done = run("triage", "-f", declare(tmp_path, probe))
    assert done.returncode == 1
    assert "Do requests reach the API, does it answer at all? no, by a probe:" in " ".join(done.stderr.split())
    assert "Cause: api (ConnectionRefused)" in done.stdout


def test_one_of_several_is_named(tmp_path: Path):
    for name in ("one", "two"):
        declare(tmp_path, refused_probe("redis" if name == "one" else "etcd"), name=name)
    assert "several BackendHealths: name one of default/one, default/two" in run("triage", "-f", tmp_path).stderr
    assert causes(told("two", "-f", tmp_path)[1]) == ["etcd"]
    assert "no BackendHealth three" in run("triage", "three", "-f", tmp_path).stderr


OWN = """apiVersion: backendhealth.dev/v1alpha1
kind: DiagnosisProfile
metadata: {name: shop}
spec:
  title: A shop
  components: [{name: db, title: database, runbook: "https://wiki/db"}]
  symptoms: [{name: page, question: Does the page load?, implicates: [db]}]
"""


def test_files_that_hold_neither_kind_are_bad_input(tmp_path: Path):
    path = tmp_path / "map.yaml"
    path.write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
    done = run("triage", "-f", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "neither a BackendHealth nor a DiagnosisProfile" in done.stderr


def test_a_profile_of_ones_own_needs_no_backendhealth(tmp_path: Path):
    path = tmp_path / "shop.yaml"
    path.write_text(OWN)
    done = run("triage", "-f", path, stdin="no\n")
    assert done.returncode == 1
    assert "1. db: database" in done.stdout
    assert "Runbook: https://wiki/db" in done.stdout


def test_a_profile_among_the_files_is_found_by_profileref(tmp_path: Path):
    path = declare(tmp_path, refused_probe("cache"), profileRef={"name": "shop"})
    assert "which is not in the files" in run("triage", "-f", path).stderr
    path.write_text(path.read_text() + "---\n" + OWN)
    code, shown = told("-f", path, stdin="no\n")
    assert (code, shown["profile"], causes(shown), suspects(shown)) == (1, "shop", ["cache"], ["db"])


def test_a_backendhealth_that_names_no_profile_is_asked_for_one(tmp_path: Path):
    path = tmp_path / "demo.yaml"
    path.write_text(resource(refused_probe("etcd")))
    assert "add --profile, one of generic" in run("triage", "-f", path).stderr
    assert causes(told("-f", path, *PROFILE)[1]) == ["etcd"]


def test_yaml_says_the_same_as_json():
    arguments = ("triage", *PROFILE, "--answer", "reach=no")
    as_yaml, as_json = (run(*arguments, "-o", form, stdin="").stdout for form in ("yaml", "json"))
    assert yaml.safe_load(as_yaml) == json.loads(as_json)


def on_a_terminal(text: str, *arguments: str) -> tuple[int, str]:
    """Exit code and standard output; standard input is a terminal on which `text` is typed."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        command("triage", *arguments),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        text=True,
    )
    os.close(theirs)
    try:
        os.write(ours, text.encode())
        output, _ = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
        os.close(ours)
    return running.returncode, output


def test_on_a_terminal_an_error_of_many_lines_ends_at_an_empty_one():
    pasted = "Unhandled exception\n  from x\nError connecting to 'etcd:2379'\n"
    code, output = on_a_terminal(f"y\ny\ny\ny\nn\n{pasted}\n\x04", *PROFILE, "-o", "json")
    shown = json.loads(output)
    assert (code, suspects(shown)[0]) == (1, "etcd")
    assert shown["questions"][4]["error"] == pasted.strip()


def test_on_a_terminal_the_platform_is_asked_for():
    number = 1 + names().index("placeos-postgres")
    code, output = on_a_terminal(f"{number}\ny\nno\n\n", "-o", "json")
    assert (code, suspects(json.loads(output))[0]) == (1, "postgres")


def test_a_status_in_the_cluster_is_read_and_nothing_is_probed(
    control_plane: ControlPlane, resources: Resources, namespace: str, tmp_path: Path
):
    path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{namespace}/backendhealths"
    made = bare("placeos", namespace)
    made["spec"] = {"profileRef": PROFILE_REF, "probes": [refused_probe("redis")]}
    control_plane.request("POST", path, made)
    there = ("placeos", "-n", namespace, "--kubeconfig", control_plane.kubeconfig)
    before = run("triage", *there, stdin="")
    assert before.returncode == 3
    assert f"{namespace}/placeos has no status yet" in before.stderr

    checked = json.loads(run("check", "-o", "json", "-f", declare(tmp_path, refused_probe("redis"))).stdout)
    status = {**checked["status"], "observedGeneration": 1, "heartbeatTime": "2026-01-01T00:00:00Z"}
    now = control_plane.request("GET", f"{path}/placeos")
    control_plane.request("PUT", f"{path}/placeos/status", {**now, "status": status})
    code, shown = told(*there)
    assert (code, causes(shown)) == (1, ["redis"])
    assert "written at 2026-01-01T00:00:00Z" in run("triage", *there, stdin="").stderr

    missing = run("triage", "nosuch", *there[1:], stdin="")
    assert missing.returncode == 2
    assert f"no backendhealths nosuch in the namespace {namespace}" in missing.stderr


def test_the_transcript_in_the_docs_is_what_happens():
    text = (ROOT / "docs/how-to/triage.md").read_text()
    shown = re.search(r"```console\n\$ (backendhealth .*?)\n(.*?)```", text, re.DOTALL)
    assert shown
    asked, said = [], ""
    for line in shown[2].splitlines():
        found = re.fullmatch(r"(.*\]) ?(.*)", line)
        if found and "DIAGNOSIS" not in said:
            asked.append(found[1])
            said += f"{found[2]}\n"
    done = subprocess.run(
        command(*shown[1].split()[1:]),
        input=said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=30,
        env={**environment(), "COLUMNS": "120"},
    )
    assert asked
    assert [line.rstrip() for line in done.stdout.splitlines()] == shown[2].splitlines(), (
        f"what is said now:\n{done.stdout}"
    )


@pytest.mark.parametrize("name", [one for one in names() if one != "generic"])
def test_every_built_in_platform_can_be_triaged(name: str):
    code, shown = told("--profile", name, "--answer", "reach=no")
    assert (code, shown["profile"], suspects(shown)[0]) == (1, name, "load-balancer")


def test_a_profile_that_knows_nothing_gives_no_all_clear():
    assert told("--profile", "generic")[0] == 3
