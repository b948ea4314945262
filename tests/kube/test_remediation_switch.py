"""The one switch: on only while the ConfigMap says so, off with the reason wherever it can't be asked."""

from __future__ import annotations

import shlex
import time

import pytest

from backendhealth.kube.api import Api, connect
from backendhealth.kube.switch import ConfigMapSwitch
from tests.kube.remediating import SWITCH, switch
from tests.servers.kubernetes import ControlPlane


def switch_of(api: Api, namespace: str, *, allowed: bool = True) -> ConfigMapSwitch:
    return ConfigMapSwitch(api, namespace=namespace, name=SWITCH, allowed=allowed)


async def test_on_only_while_it_says_true(control_plane: ControlPlane, api: Api, namespace: str):
    asked = switch_of(api, namespace)
    assert f"{namespace}/{SWITCH} is not there" in await asked()
    for enabled in ("false", "True", "yes", "", None):
        switch(control_plane, namespace, enabled)
        assert 'not "true"' in await asked()
    switch(control_plane, namespace)
    assert await asked() == ""
    assert "setting" in await switch_of(api, namespace, allowed=False)()


@pytest.mark.parametrize("value", ["off", "Off", "false", ""])
async def test_off_by_annotation(control_plane: ControlPlane, api: Api, namespace: str, value: str):
    switch(control_plane, namespace, remediation=value)
    assert "annotation" in await switch_of(api, namespace)()


async def test_on_by_annotation_leaves_it_to_the_data(control_plane: ControlPlane, api: Api, namespace: str):
    switch(control_plane, namespace, remediation="on")
    assert await switch_of(api, namespace)() == ""
    switch(control_plane, namespace, "false", remediation="on")
    assert await switch_of(api, namespace)()


async def test_an_api_server_that_hangs_is_off_in_time(control_plane: ControlPlane, api: Api, namespace: str):
    switch(control_plane, namespace)
    asked = switch_of(api, namespace)
    assert await asked() == ""
    control_plane.pause()
    try:
        began = time.monotonic()
        assert "can't be asked" in await asked()
        assert time.monotonic() - began < 4
    finally:
        control_plane.resume()
    assert await asked() == ""


async def test_forbidden_is_off_and_names_the_line(control_plane: ControlPlane, namespace: str):
    switch(control_plane, namespace)
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "poor")
    async with await connect(str(control_plane.token_kubeconfig(namespace, "poor")), None) as poor:
        asked = switch_of(poor, namespace)
        why = await asked()
        assert f"--resource-name={SWITCH}" in why
        for line in why.partition("to grant it: ")[2].split("; "):
            control_plane.kubectl(*shlex.split(line)[1:])
        told = {why}

        async def on() -> bool:
            told.add(await asked())
            return "" in told

        deadline = time.monotonic() + 10
        while not await on():
            assert time.monotonic() < deadline, told
