"""What Flux (kstatus) and Argo CD make of a BackendHealth in each state: the same programs, our own statuses."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cel
import lupa.lua51
import pytest
import yaml

from tests.servers.process import cache_dir
from tests.shipping.states import GENERATION, STATES, Object
from tests.shipping.support import MANIFESTS, ROOT, named, rendered

SOURCE = Path(__file__).parent / "kstatus"
PAGE = (ROOT / "docs" / "how-to" / "gitops.md").read_text()
HEALTH = MANIFESTS / "argocd" / "health.lua"
KSTATUS = {
    "just created": "InProgress",
    "first attempts under way": "InProgress",
    "healthy": "Current",
    "degraded": "Current",
    "unhealthy": "Current",
    "unknown": "Current",
    "suspended": "Current",
    "one probe suspended": "Current",
    "invalid": "Failed",
    "changed, not seen yet": "InProgress",
    "invalid, corrected, not seen yet": "InProgress",
}
ARGO_CD = {
    "just created": "Progressing",
    "first attempts under way": "Progressing",
    "healthy": "Healthy",
    "degraded": "Healthy",
    "unhealthy": "Healthy",
    "unknown": "Healthy",
    "suspended": "Suspended",
    "one probe suspended": "Healthy",
    "invalid": "Degraded",
    "changed, not seen yet": "Progressing",
    "invalid, corrected, not seen yet": "Progressing",
}
# Argo CD opens base, table, package and a harmless os; a script sees nothing else.
NOT_THERE = (
    "string",
    "math",
    "io",
    "debug",
    "coroutine",
    "os",
    "require",
    "dofile",
    "loadfile",
    "loadstring",
    "python",
)


@functools.cache
def kstatus_program() -> Path:
    """Flux's kstatus library as a program, built once for each version of its source."""
    sources = sorted(path for path in SOURCE.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    program = cache_dir() / f"kstatus-{digest}"
    if not program.exists() and shutil.which("go") is None:
        pytest.skip("Go is not installed: kstatus is built from its module")
    program.parent.mkdir(parents=True, exist_ok=True)
    with program.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            half = program.with_suffix(".new")
            subprocess.run(["go", "build", "-trimpath", "-o", str(half), "."], cwd=SOURCE, check=True, timeout=600)
            half.rename(program)
    return program


def kstatus(*objects: Object) -> list[str]:
    """The status of each."""
    text = "\n".join(json.dumps(one) for one in objects)
    done = subprocess.run([kstatus_program()], input=text, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()


def argo_cd(one: Object, script: str | None = None) -> tuple[str, str]:
    """Health and message, as a Lua without the libraries that Argo CD leaves out gives them."""
    lua = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute("getmetatable('').__index = nil")
    for name in NOT_THERE:
        lua.globals()[name] = None
    lua.globals()["obj"] = as_lua(lua, one)
    health = lua.execute(HEALTH.read_text() if script is None else script)
    return health.status, health.message


def as_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: as_lua(lua, one) for key, one in value.items()})
    if isinstance(value, list):
        return lua.table_from([as_lua(lua, one) for one in value])
    return value


@pytest.fixture(scope="module")
def _kstatus() -> None:
    kstatus_program()


@pytest.mark.timeout(620)
@pytest.mark.usefixtures("_kstatus")
def test_kstatus_of_every_state():
    assert dict(zip(STATES, kstatus(*(make() for make in STATES.values())), strict=True)) == KSTATUS


@pytest.mark.usefixtures("_kstatus")
def test_kstatus_of_one_that_is_being_deleted():
    one = STATES["healthy"]()
    one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert kstatus(one) == ["Terminating"]


@pytest.mark.usefixtures("_kstatus")
def test_kstatus_would_take_a_fresh_object_for_current_without_its_default():
    one = STATES["just created"]()
    del one["status"]
    assert kstatus(one) == ["Current"]


@pytest.mark.parametrize("state", STATES)
def test_health_in_argo_cd(state: str):
    health, message = argo_cd(STATES[state]())
    assert health == ARGO_CD[state]
    assert message


def test_argo_cd_is_told_what_is_wrong():
    assert argo_cd(STATES["unhealthy"]())[1] == "ConnectionRefused: a: connection refused"
    assert "spec.probes[0].telnet" in argo_cd(STATES["invalid"]())[1]


def test_argo_cd_shows_an_outage_where_that_is_wanted():
    script, changed = re.subn(r'local outage = "Healthy"', 'local outage = "Degraded"', HEALTH.read_text())
    assert changed == 1
    expected = ARGO_CD | {"unhealthy": "Degraded"}
    assert {state: argo_cd(make(), script)[0] for state, make in STATES.items()} == expected


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": GENERATION}, {"conditions": []}])
def test_argo_cd_takes_half_a_status_for_progress(status: Object | None):
    one = {**STATES["healthy"](), "status": status}
    assert argo_cd(one)[0] == "Progressing"


def test_the_lua_here_is_as_poor_as_argo_cds():
    for script in ("return {status=string.format('%s', 1)}", "return {status=('x'):upper()}", "return os.time()"):
        with pytest.raises(lupa.lua51.LuaError, match="attempt to index"):
            argo_cd(STATES["healthy"](), script)


def test_the_component_adds_the_check_to_argo_cds_settings(tmp_path: Path):
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    (tmp_path / "cm.yaml").write_text(yaml.safe_dump({**mine, "data": {"url": "https://argocd.example"}}))
    above = "../" * (len(tmp_path.resolve().parts) - 1)
    mine = {"resources": ["cm.yaml"], "components": [f"{above}{str(MANIFESTS / 'argocd').lstrip('/')}"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    data = named(rendered(tmp_path), "ConfigMap", "argocd-cm")["data"]
    assert data == {
        "url": "https://argocd.example",
        "resource.customizations.health.backendhealth.dev_BackendHealth": HEALTH.read_text(),
    }


FLUX_WAITS = {
    "healthy": "current",
    "degraded": "current",
    "invalid": "failed",
    "unhealthy": "",
    "unknown": "",
    "suspended": "",
    "one probe suspended": "",
    "first attempts under way": "",
    "just created": "inProgress",
    "changed, not seen yet": "inProgress",
    "invalid, corrected, not seen yet": "inProgress",
}


@pytest.mark.parametrize("state", FLUX_WAITS)
def test_the_expressions_by_which_flux_waits_for_backends(state: str):
    (yaml_text,) = re.findall(r"^```yaml\n(healthCheckExprs:\n.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    (check,) = yaml.safe_load(yaml_text)["healthCheckExprs"]
    one = STATES[state]()
    facts = {"status": {"conditions": [], **one["status"]}, "metadata": one["metadata"]}
    holds = (kind for kind in ("inProgress", "failed", "current") if cel.evaluate(check[kind], facts))
    assert next(holds, "") == FLUX_WAITS[state]


def test_the_docs_say_the_same():
    found = re.findall(r"^\| ([^|]+) \| (\w+) \| (\w+) \|", PAGE, re.MULTILINE)
    rows = {state: (flux, argo) for state, flux, argo in found}
    assert rows == {state: (KSTATUS[state], ARGO_CD[state]) for state in STATES}
