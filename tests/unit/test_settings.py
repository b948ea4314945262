"""Settings: flags before variables before defaults; every problem named with its remedy."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from backendhealth.core.durations import DURATION_PATTERN
from backendhealth.kube import settings as module
from backendhealth.kube.settings import Settings, SettingsError, add_flags, default_text, flag_of, variable_of

POD = {"BACKENDHEALTH_LEASE_NAMESPACE": "backendhealth-system"}
OTHER_THAN_DEFAULT = {
    "namespaces": ("a,b", ("a", "b")),
    "leader_elect": ("false", False),
    "shards": ("3", 3),
    "lease_namespace": ("ops", "ops"),
    "lease_name": ("bh", "bh"),
    "identity": ("me", "me"),
    "heartbeat_interval": ("1h", "1h"),
    "resync_interval": ("5s", "5s"),
    "secret_ttl": ("90s", "90s"),
    "allow_targets": ("127.0.0.0/8, *.db.svc", ("127.0.0.0/8", "*.db.svc")),
    "deny_targets": ("10.0.0.1,::1", ("10.0.0.1", "::1")),
    "remediation": ("off", False),
    "switch": ("kill-switch", "kill-switch"),
    "helper_image": ("registry.example/backendhealth:1", "registry.example/backendhealth:1"),
    "field_manager": ("argocd-controller", "argocd-controller"),
    "listen": ("127.0.0.1:0", "127.0.0.1:0"),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "events_per_minute": ("0", 0),
    "kubeconfig": ("/etc/kubeconfig", "/etc/kubeconfig"),
    "context": ("test", "test"),
}


def parse(*flags: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return Settings.from_sources(parser.parse_args(flags), {**POD, **environ})


def problems(*flags: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(*flags, **environ)
    return caught.value.problems


def test_the_table_has_every_setting():
    assert OTHER_THAN_DEFAULT.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("field", OTHER_THAN_DEFAULT)
def test_each_setting_by_flag_by_variable_and_by_default(field: str):
    text, value = OTHER_THAN_DEFAULT[field]
    flags = [flag_of(field, off=True)] if value is False else [flag_of(field), text]
    assert getattr(parse(*flags), field) == value
    assert getattr(Settings.from_sources(None, {**POD, variable_of(field): text}), field) == value
    default = getattr(parse(), field)
    assert default != value
    assert default == Settings.model_fields[field].default or field in {"lease_namespace", "identity"}


def test_a_flag_goes_before_a_variable():
    assert parse("--log-format", "text", BACKENDHEALTH_LOG_FORMAT="json").log_format == "text"
    assert parse("--namespaces", "", BACKENDHEALTH_NAMESPACES="a").namespaces == ()


def test_an_empty_variable_counts_as_none():
    assert parse(BACKENDHEALTH_HEARTBEAT_INTERVAL="", BACKENDHEALTH_SHARDS="").heartbeat_interval == "10m"


def test_durations_as_numbers():
    settings = parse("--heartbeat-interval", "1m30s", "--resync-interval", "2s")
    assert (settings.heartbeat_seconds, settings.resync_seconds, settings.secret_ttl_seconds) == (90.0, 2.0, 60.0)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        (":8080", (None, 8080)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:9000", ("::1", 9000)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_where_to_listen(listen: str, address: tuple[str | None, int]):
    assert parse("--listen", listen).listen_address == address


@pytest.mark.parametrize("listen", ["8080", "", ":", ":x", ":65536", "::1:8080", "http://a:1"])
def test_where_not_to_listen(listen: str):
    (told,) = problems("--listen", listen)
    assert told.startswith(f"--listen {listen}: must be HOST:PORT")


def test_every_problem_is_told_with_its_flag_or_variable_and_the_remedy():
    told = problems(
        *("--shards", "0", "--heartbeat-interval", "10", "--namespaces", "ok,Not_Ok", "--allow-targets", "a b"),
        BACKENDHEALTH_LOG_FORMAT="xml",
        BACKENDHEALTH_LEADER_ELECT="perhaps",
        BACKENDHEALTH_RESYNC_INTERVAL="2h",
        BACKENDHEALTH_IDENTITY="a b",
        BACKENDHEALTH_SHARD="3",
        BACKENDHEALTH_EVENTS_PER_MINUTE="many",
    )
    assert sorted(told) == [
        "--allow-targets a b: must be a network (10.0.0.0/8), an address or a name (*.db.svc)",
        "--heartbeat-interval 10: not a duration: a number with a unit, e.g. 30s, 500ms, 1m30s, 1h",
        "--namespaces Not_Ok: must be lower-case letters, digits and dashes, with a letter or digit at both ends",
        "--shards 0: must be greater than or equal to 1",
        "BACKENDHEALTH_EVENTS_PER_MINUTE=many: must be a valid integer, unable to parse string as an integer",
        "BACKENDHEALTH_IDENTITY=a b: must be text without spaces",
        "BACKENDHEALTH_LEADER_ELECT=perhaps: must be true or false",
        "BACKENDHEALTH_LOG_FORMAT=xml: must be 'text' or 'json'",
        "BACKENDHEALTH_RESYNC_INTERVAL=2h: must be from 1s to 1h",
        "BACKENDHEALTH_SHARD: there is no such setting; did you mean BACKENDHEALTH_SHARDS?",
    ]


def test_variables_that_kubernetes_or_others_set_are_no_problem():
    parse(
        BACKENDHEALTH_PORT="tcp://10.0.0.1:8080",
        BACKENDHEALTH_PORT_8080_TCP_ADDR="10.0.0.1",
        BACKENDHEALTH_SERVICE_HOST="10.0.0.1",
        BACKENDHEALTH_SERVICE_PORT_HTTP="8080",
        BACKENDHEALTH_CACHE="/var/cache",
        SHARDS="none",
    )


def test_a_long_value_is_cut():
    (told,) = problems("--log-level", "x" * 10_000)
    assert len(told) < 200


def test_no_lease_namespace_outside_a_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(module, "POD_NAMESPACE", tmp_path / "namespace")
    with pytest.raises(SettingsError, match=r"--lease-namespace .*BACKENDHEALTH_LEASE_NAMESPACE.* --no-leader-elect"):
        Settings.from_sources(None, {})
    assert Settings.from_sources(None, {"BACKENDHEALTH_LEADER_ELECT": "false"}).lease_namespace == ""
    (tmp_path / "namespace").write_text("pods-own\n")
    assert Settings.from_sources(None, {}).lease_namespace == "pods-own"


def test_two_processes_have_two_identities():
    assert parse().identity != parse().identity
    assert re.fullmatch(r"[!-~]+_[0-9a-f]{8}", parse().identity)


def test_help_and_schema_have_every_setting_and_its_default():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    told = " ".join(parser.format_help().split())
    for field, info in Settings.model_fields.items():
        assert flag_of(field) in told
        assert not default_text(info) or f"(default: {default_text(info)})" in told
        assert info.description
        assert info.description.endswith(".")


def test_defaults_are_valid():
    assert parse().heartbeat_seconds == 600.0
    assert re.fullmatch(DURATION_PATTERN, parse().secret_ttl)


@pytest.mark.parametrize("manager", ["kubectl", "kubectl-rollout"])
def test_a_field_manager_that_gitops_tools_take_back_is_refused(manager: str):
    (told,) = problems("--field-manager", manager)
    assert told.startswith(f"--field-manager {manager}: must not begin with kubectl: Flux takes")
