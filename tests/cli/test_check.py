"""`backendhealth check` on real servers, as a user runs it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from backendhealth.core.spec.status import BackendHealthStatus
from tests.cli.support import redis_probe, refused_probe, resource, run, secret
from tests.servers.redis import RedisServer

PLANTED = "pl4nted-s3cret"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    with RedisServer(password=PLANTED) as server:
        yield server


def write(folder: Path, text: str, name: str = "backends.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_all_healthy_exits_0_and_prints_kubectls_columns(tmp_path: Path, redis: RedisServer):
    done = run("check", "-f", write(tmp_path, resource(redis_probe(redis.port))))
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()[:2]
    assert head.split("   ")[0] == "NAME"
    assert [word for word in ("STATE", "ROOT CAUSE", "REASON", "IMPACT", "SINCE") if word not in head] == []
    assert row.split()[:2] == ["demo", "Healthy"]
    assert done.stderr == ""


def test_something_unhealthy_exits_1_and_names_the_cause(tmp_path: Path, redis: RedisServer):
    done = run("check", "-f", write(tmp_path, resource(redis_probe(redis.port), refused_probe())))
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split()[:4] == ["demo", "Unhealthy", "gone", "ConnectionRefused"]


def test_wide_tells_steps_facts_and_the_message(tmp_path: Path, redis: RedisServer):
    done = run("check", "-o", "wide", "-f", write(tmp_path, resource(redis_probe(redis.port))))
    assert "MESSAGE" in done.stdout.splitlines()[0]
    assert "steps: " in done.stdout
    assert "connect " in done.stdout
    assert "version=7" in done.stdout


def test_only_unknown_exits_3(tmp_path: Path, locked: RedisServer):
    probe = redis_probe(locked.port, auth={"secretRef": {"name": "nosuch"}})
    done = run("check", "-f", write(tmp_path, resource(probe)), "-o", "json")
    assert done.returncode == 3
    condition = json.loads(done.stdout)["status"]["conditions"][1]
    assert (condition["status"], condition["reason"]) == ("Unknown", "SecretNotFound")
    assert "nosuch" in condition["message"]


def test_unhealthy_goes_before_unknown_in_the_exit_code(tmp_path: Path, locked: RedisServer):
    probe = redis_probe(locked.port, auth={"secretRef": {"name": "nosuch"}})
    assert run("check", "-f", write(tmp_path, resource(probe, refused_probe()))).returncode == 1


def test_bad_input_exits_2_with_the_path_of_the_field(tmp_path: Path):
    path = write(tmp_path, resource({"name": "redis", "redis": {"urll": "redis://h"}}))
    done = run("check", "-f", path)
    assert done.returncode == 2
    assert "spec.probes[0].redis.urll" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--for", "5s"], "--for goes with --watch"),
        (["--watch", "--for", "5"], "not a duration"),
        (["--secrets", "/nonexistent"], "not a directory"),
        (["--kubeconfig", "/nonexistent"], "can't be read"),
        (["--context", "x"], "--context goes with --kubeconfig"),
        (["--record", "/nonexistent/file"], "No such file"),
    ],
)
def test_bad_options_exit_2_and_say_why(tmp_path: Path, redis: RedisServer, options: list[str], told: str):
    done = run("check", "-f", write(tmp_path, resource(redis_probe(redis.port))), *options)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_file_that_is_not_there_exits_2(tmp_path: Path):
    done = run("check", "-f", tmp_path / "nosuch.yaml")
    assert done.returncode == 2
    assert "nosuch.yaml" in done.stderr


def test_files_without_a_backendhealth_exit_2(tmp_path: Path):
    done = run("check", "-f", write(tmp_path, secret("x", {"password": "value"})))
    assert done.returncode == 2
    assert "no BackendHealth" in done.stderr


def test_degraded_exits_0_unless_strict(tmp_path: Path, redis: RedisServer):
    # a second endpoint that is down leaves this two-node view degraded: an etcd is not needed for the exit code
    from tests.servers.etcd import Cluster

    with Cluster(3) as cluster:
        cluster.members[2].process.kill()
        path = write(tmp_path, resource({"name": "etcd", "etcd": {"endpoints": cluster.urls}}, timeout="1s"))
        relaxed = run("check", "-f", path, "-o", "json")
        strict = run("check", "-f", path, "--strict")
    assert (relaxed.returncode, strict.returncode) == (0, 1), relaxed.stdout
    status = json.loads(relaxed.stdout)["status"]
    assert status["summary"]["state"] == "Degraded"
    assert {c["type"]: c["status"] for c in status["conditions"]} | {"Healthy": "True", "Degraded": "True"} == {
        c["type"]: c["status"] for c in status["conditions"]
    }


def test_json_is_the_object_as_kubernetes_holds_it(tmp_path: Path, redis: RedisServer):
    path = write(tmp_path, resource(redis_probe(redis.port), refused_probe()))
    shown = json.loads(run("check", "-f", path, "-o", "json").stdout)
    declared = yaml.safe_load(path.read_text())
    assert shown["spec"] == declared["spec"]
    assert shown["metadata"] == {**declared["metadata"], "namespace": "default"}
    status = TypeAdapter(BackendHealthStatus).validate_json(json.dumps(shown["status"]))
    assert {c.type: c.status for c in status.conditions} == {
        "Ready": "True",
        "Healthy": "False",
        "RedisHealthy": "True",
        "GoneHealthy": "False",
    }
    assert status.diagnosis
    assert [cause.component for cause in status.diagnosis.root_causes] == ["gone"]
    assert status.incident


def test_several_resources_give_a_list(tmp_path: Path, redis: RedisServer):
    text = resource(redis_probe(redis.port), name="one") + "---\n" + resource(redis_probe(redis.port), name="two")
    shown = yaml.safe_load(run("check", "-f", write(tmp_path, text), "-o", "yaml").stdout)
    assert (shown["kind"], [item["metadata"]["name"] for item in shown["items"]]) == ("List", ["one", "two"])


def test_junit_has_a_failure_for_unhealthy_and_an_error_for_unknown(tmp_path: Path, redis: RedisServer):
    unknown = redis_probe(redis.port, "asks", auth={"secretRef": {"name": "nosuch"}})
    path = write(tmp_path, resource(redis_probe(redis.port), refused_probe(), unknown))
    suite = ET.fromstring(run("check", "-f", path, "-o", "junit").stdout)[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert {case.get("name"): [child.tag for child in case] for case in suite} == {
        "redis": [],
        "gone": ["failure"],
        "asks": ["error"],
    }


def test_standard_input_and_directories(tmp_path: Path, redis: RedisServer):
    text = resource(redis_probe(redis.port))
    assert run("check", "-f", "-", stdin=text).returncode == 0
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", text)
    write(tmp_path, "not yaml: [", "notes.txt")
    assert run("check", "-f", tmp_path).returncode == 0


def test_a_secret_in_the_same_file_is_used(tmp_path: Path, locked: RedisServer):
    probe = redis_probe(locked.port, auth={"secretRef": {"name": "redis"}})
    path = write(tmp_path, resource(probe) + secret("redis", {"password": PLANTED}))
    assert run("check", "-f", path).returncode == 0


def test_a_secret_of_another_namespace_is_not_used(tmp_path: Path, locked: RedisServer):
    probe = redis_probe(locked.port, auth={"secretRef": {"name": "redis"}})
    path = write(tmp_path, resource(probe) + secret("redis", {"password": PLANTED}, namespace="other"))
    done = run("check", "-f", path)
    assert done.returncode == 3
    assert "SecretNotFound" in done.stdout


def test_secrets_from_a_directory(tmp_path: Path, locked: RedisServer):
    folder = tmp_path / "secrets" / "default" / "redis"
    folder.mkdir(parents=True)
    (folder / "password").write_text(PLANTED + "\n")
    probe = redis_probe(locked.port, auth={"secretRef": {"name": "redis"}})
    path = write(tmp_path, resource(probe))
    assert run("check", "-f", path, "--secrets", tmp_path / "secrets").returncode == 0
    (folder / "password").rename(folder / "passwort")
    missing = run("check", "-f", path, "--secrets", tmp_path / "secrets")
    assert missing.returncode == 3
    assert "SecretKeyMissing" in missing.stdout


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "junit"])
@pytest.mark.parametrize("password", [PLANTED, PLANTED + "-wrong"])
def test_a_planted_password_shows_nowhere(tmp_path: Path, locked: RedisServer, form: str, password: str):
    record = tmp_path / "record.jsonl"
    probe = redis_probe(locked.port, auth={"secretRef": {"name": "redis"}})
    path = write(tmp_path, resource(probe) + secret("redis", {"password": password}))
    done = run("check", "-f", path, "-o", form, "--record", record)
    assert done.returncode == (0 if password == PLANTED else 3)
    assert PLANTED not in done.stdout + done.stderr + record.read_text()


def test_a_planted_password_in_bad_input_shows_nowhere(tmp_path: Path):
    probe = {"name": "redis", "redis": {"url": f"redis://user:{PLANTED}@127.0.0.1:1", "auth": PLANTED}}
    done = run("check", "-f", write(tmp_path, resource(probe)))
    assert done.returncode == 2
    assert "no-password-in-url" in done.stderr
    assert PLANTED not in done.stdout + done.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path, redis: RedisServer):
    import subprocess

    from tests.cli.support import command, environment

    path = write(tmp_path, resource(redis_probe(redis.port)))
    checking = subprocess.Popen(
        command("check", "-f", path, "-o", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert checking.stdout
    assert checking.stderr
    checking.stdout.close()
    told = checking.stderr.read()
    checking.stderr.close()
    assert checking.wait(30) in (0, 1)
    assert told == b""
