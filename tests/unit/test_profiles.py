"""The profiles that ship inside the package: valid, whole, alike where the platforms are, true to what PlaceOS says."""

from __future__ import annotations

import fnmatch
import json
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from backendhealth import profiles
from backendhealth.cli.main import main
from backendhealth.cli.references import unknown_reasons
from backendhealth.core.patterns import compiled_signature
from backendhealth.core.spec.placeos import PlaceosProbe
from backendhealth.core.spec.profile import DiagnosisProfileSpec, ProfileComponent
from hack.generate import ROOT

FOLDER = ROOT / "operator" / "backendhealth" / "profiles"
PLACEOS = ("placeos-rethinkdb", "placeos-postgres-etcd", "placeos-postgres")
DATABASES = {"placeos-rethinkdb": "rethinkdb", "placeos-postgres-etcd": "postgres", "placeos-postgres": "postgres"}


def spec(name: str) -> DiagnosisProfileSpec:
    return profiles.built_in(name).spec


def part(profile: str, component: str) -> ProfileComponent:
    return next(one for one in spec(profile).components if one.name == component)


def effects(profile: str, component: str) -> Mapping[str, str]:
    return {one.feature: one.effect for one in part(profile, component).effects}


def test_the_names():
    assert profiles.names() == ("generic", "placeos-postgres", "placeos-postgres-etcd", "placeos-rethinkdb")
    assert profiles.DEFAULT in profiles.names()


def test_one_is_read_once():
    assert profiles.built_in("generic") is profiles.built_in("generic")


@pytest.mark.parametrize(
    ("name", "meant", "said"),
    [
        ("placeos", "", "there are generic, placeos-postgres, placeos-postgres-etcd, placeos-rethinkdb"),
        ("placeos_rethinkdb", "placeos-rethinkdb", 'did you mean "placeos-rethinkdb"?'),
        ("../generic", "generic", 'did you mean "generic"?'),
        ("__init__.py", "", "there are"),
    ],
)
def test_one_that_there_is_not(name: str, meant: str, said: str):
    with pytest.raises(profiles.UnknownProfileError) as error:
        profiles.built_in(name)
    assert error.value.suggestion == meant
    assert said in str(error.value)


@pytest.mark.parametrize("name", profiles.names())
def test_each_is_what_a_user_might_write(name: str, capsys: pytest.CaptureFixture[str]):
    assert main(["lint", str(FOLDER / f"{name}.yaml")]) == 0
    assert capsys.readouterr().out.startswith("no problems")
    assert profiles.built_in(name).metadata.name == name
    assert list(unknown_reasons(spec(name))) == []


def test_each_is_in_the_wheel():
    """A wheel takes every file of the packages that git does not ignore, unless it is told otherwise."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"] == {"targets": {"wheel": {"packages": ["operator/backendhealth"]}}}
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    for name in profiles.names():
        parts = (FOLDER / f"{name}.yaml").relative_to(ROOT).parts
        assert not [one for one in ignored for part in parts if fnmatch.fnmatch(part, one)]


def test_the_generic_one_knows_no_platform():
    dumped = profiles.built_in("generic").model_dump(exclude_unset=True)["spec"]
    assert set(dumped) == {"title", "description"}


@pytest.mark.parametrize("name", PLACEOS)
def test_symptoms_are_those_that_the_probe_answers(name: str):
    probe = PlaceosProbe.model_validate(
        {
            "url": "http://api:3000",
            "apiKeySecretRef": {"name": "key", "key": "key"},
            "system": "sys-probe",
            "module": "Probe_1",
            "function": "ping",
            "services": {"triggers": "http://triggers:3000"},
        },
    )
    answered = [one.removeprefix("symptom/") for one in probe.parts if one.startswith("symptom/")]
    assert [one.name for one in spec(name).symptoms] == answered


@pytest.mark.parametrize("name", PLACEOS)
def test_every_component_says_what_to_look_at(name: str):
    for one in spec(name).components:
        assert one.next_step, one.name
        assert one.role, one.name
    for symptom in spec(name).symptoms:
        assert symptom.next_step
        assert symptom.question.endswith("?")


@pytest.mark.parametrize("name", PLACEOS)
def test_every_feature_fails_with_something(name: str):
    failing = {one.feature for each in spec(name).components for one in each.effects if one.effect == "Fails"}
    assert failing == {one.name for one in spec(name).features}


@pytest.mark.parametrize("name", PLACEOS)
def test_nobody_is_told_to_signal_puma(name: str):
    signalled = {one.name for one in spec(name).components if "kill -USR1" in (one.next_step or "")}
    assert {"api", "core", "triggers", "staff"} <= signalled
    assert "auth" not in signalled
    assert "never send it" in (part(name, "auth").next_step or "")


@pytest.mark.parametrize("name", PLACEOS)
def test_the_dependencies(name: str):
    database = DATABASES[name]
    etcd = set() if name == "placeos-postgres" else {"etcd"}
    assert set(part(name, "api").depends_on) == {database, "redis"} | etcd  # neither Elasticsearch nor core
    assert set(part(name, "core").depends_on) == {database, "redis"} | etcd
    assert set(part(name, "drivers").depends_on) == {"core", "redis"}
    assert set(part(name, "search-ingest").depends_on) == {"elasticsearch", database}
    for backend in (database, "redis", "elasticsearch", *etcd):
        assert part(name, backend).depends_on == []
    if not etcd:
        assert "etcd" not in {one.name for one in spec(name).components}


@pytest.mark.parametrize("name", PLACEOS)
def test_all_drivers_together_means_redis(name: str):
    (one,) = [one for one in spec(name).confounders if one.reasons == ["DriverCrashLooping"]]
    assert (one.component, one.suspects, one.all_subjects) == ("drivers", ["redis"], True)
    assert "DriverCompileFailed" in part(name, "drivers").own_reasons


def test_what_fails_with_a_backend():
    fails = {
        name: {feature for feature, effect in effects("placeos-rethinkdb", name).items() if effect == "Fails"}
        for name in ("etcd", "rethinkdb", "redis", "elasticsearch", "drivers")
    }
    assert fails["etcd"] == {"execute", "new-websockets", "triggers", "driver-launch", "core-joining"}
    assert {"login", "api-requests"} <= fails["rethinkdb"]
    assert effects("placeos-rethinkdb", "rethinkdb")["existing-websockets"] == "Works"
    assert effects("placeos-rethinkdb", "etcd")["api-requests"] == "Works"
    assert "status-updates" in fails["redis"]
    assert effects("placeos-rethinkdb", "redis")["execute"] == "Degraded"
    assert fails["elasticsearch"] == {"listing"}
    assert effects("placeos-rethinkdb", "drivers") == {"execute": "Degraded"}


def test_with_discovery_in_redis_its_loss_is_that_of_etcd_too():
    worse = {"Works": 0, "Degraded": 1, "Fails": 2}
    etcd, before, after = (
        effects(name, component)
        for name, component in (
            ("placeos-postgres-etcd", "etcd"),
            ("placeos-postgres-etcd", "redis"),
            ("placeos-postgres", "redis"),
        )
    )
    for feature in etcd.keys() | before.keys():
        least = max(worse[found.get(feature, "Works")] for found in (etcd, before))
        assert worse[after.get(feature, "Works")] >= least, feature


@pytest.mark.parametrize(
    ("text", "implicated", "cleared"),
    [
        ("No registered core instances", ["core", "etcd"], "load-balancer"),
        ("no core instances registered!", ["core", "etcd"], "elasticsearch"),
        ("core not registered: 01FZX", ["core", "etcd"], ""),
        ("unable to connect to etcd", ["etcd"], ""),
        ("connection check to etcd failed", ["etcd"], ""),
        ("connection check to redis failed", ["redis"], ""),
        ("connection check to rethinkdb failed", ["rethinkdb"], ""),
        ("connection check to elastic failed", ["elasticsearch"], ""),
        ("etcdserver: request timed out when calling etcd", ["etcd"], ""),
        ("Error connecting to 'etcd:2379': Connection refused", ["etcd"], ""),
        ("Error connecting to 'core-0.core:3000': Connection refused", ["core", "etcd"], ""),
        ("unknown X-API-Key", ["rethinkdb"], ""),
        ("could not find module", ["redis", "drivers"], ""),
        ("could not find function nope", [], "redis"),
        ("attempted to access privileged function reset", [], "rethinkdb"),
        ("unexpected response code 500", ["core", "drivers"], "etcd"),
        ("Could not locate module mod-1, it is running but not loaded.", ["drivers", "core"], "etcd"),
        ("module raised: lamp is broken", ["drivers"], "core"),
        ("Upstream services are unavailable", ["rethinkdb", "etcd", "redis"], ""),
        ("error launching driver: drivers/lamp", ["drivers", "redis"], ""),
        ("driver launch timeout", ["drivers", "redis"], ""),
        ("driver process exited with 1", ["drivers", "redis"], ""),
        ("[liveness] restarting unresponsive driver", ["drivers", "redis"], ""),
        ("failed to compile driver", ["drivers"], ""),
        ("Driver not compiled yet", ["core", "drivers"], ""),
        ("cluster rebalance: module load failure", ["drivers", "core"], ""),
        ("redis subscription failed", ["redis", "api"], ""),
        ("Redis::CannotConnectError", ["redis"], ""),
        ("authority not found", ["load-balancer"], ""),
    ],
)
def test_texts_that_placeos_writes(text: str, implicated: list[str], cleared: str):
    known = spec("placeos-rethinkdb").signatures
    found = [one for one in known if compiled_signature(one.pattern).search(text.encode())]
    assert found
    assert found[0].implicates == implicated
    assert not cleared or cleared in found[0].clears


@pytest.mark.parametrize("text", ["", "connection refused", "it answers", "lamp: no reply from device", "HTTP 500"])
def test_texts_that_say_nothing(text: str):
    known = spec("placeos-rethinkdb").signatures
    assert [one.name for one in known if compiled_signature(one.pattern).search(text.encode())] == []


def test_what_the_platforms_share_is_worded_alike():
    """The second profile is the first with another database: one that is changed alone has been forgotten."""
    one, other = (
        profiles.built_in(name)
        .model_dump_json(by_alias=True)
        .replace("RethinkDB", "PostgreSQL")
        .replace("rethinkdb", "postgres")
        for name in PLACEOS[:2]
    )
    shared = [_bare(text) for text in (one, other)]
    assert shared[0] == shared[1]


def _bare(text: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(text)["spec"]
    for component in raw["components"]:
        if component["name"] == "postgres":
            component.pop("nextStep")
    for signature in raw["signatures"]:
        if signature["name"] == "database-check-failed":
            signature.pop("pattern")
    return {key: raw[key] for key in ("features", "components", "symptoms", "signatures", "confounders")}


def test_the_how_to_shows_an_example_that_is_right(capsys: pytest.CaptureFixture[str]):
    page = (ROOT / "docs" / "how-to" / "write-a-profile.md").read_text(encoding="utf-8")
    assert "../../examples/profile.yaml" in page
    assert main(["lint", str(ROOT / "examples" / "profile.yaml")]) == 0
    assert capsys.readouterr().out == "no problems in 2 resources, 1 file read\n"
