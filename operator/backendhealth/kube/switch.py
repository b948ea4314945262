"""The one switch of all remediation: a ConfigMap in the operator's namespace. What can't be asked is off."""

from __future__ import annotations

from http import HTTPStatus

from backendhealth.core.grants import remedy
from backendhealth.core.observation import clip
from backendhealth.kube.api import Api, ApiError, ApiUnavailable

ENABLED = "enabled"
"""Key of the ConfigMap's data; `true` is on, all else is off."""
ANNOTATION = "backendhealth.dev/remediation"
"""`off`, or anything but `on`, switches off as well, for people in a hurry: Git owns the ConfigMap's data."""
PATIENCE = 3.0
"""Seconds for which the answer is waited for."""


class ConfigMapSwitch:
    """engine.remediation.ports.Switch: asks each time it is called, why all remediation is off; empty when it is on."""

    def __init__(self, api: Api, *, namespace: str, name: str, allowed: bool) -> None:
        """`allowed`: the operator's own setting."""
        self._api = api
        self._namespace = namespace
        self._name = name
        self._allowed = allowed

    async def __call__(self) -> str:
        """Why it is off."""
        if not self._allowed:
            return "the operator's setting `remediation` is false"
        if not self._namespace:
            return f"the ConfigMap {self._name} is looked for in lease_namespace, which is not set"
        where = f"the ConfigMap {self._namespace}/{self._name}"
        path = f"/api/v1/namespaces/{self._namespace}/configmaps/{self._name}"
        try:
            found = await self._api.request("GET", path, timeout=PATIENCE)
        except ApiUnavailable as error:
            return clip(f"{where} can't be asked: {error}")
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return f"{where} is not there"
            how = remedy(self._namespace, error.message, name=self._name)
            return clip(f"{where} can't be asked: {error.message}{how}")
        noted = (found.get("metadata", {}).get("annotations") or {}).get(ANNOTATION, "on")
        if noted != "on":
            return f"{where} has the annotation {ANNOTATION}: {_shown(noted)}"
        enabled = (found.get("data") or {}).get(ENABLED)
        return "" if enabled == "true" else f'{where} says {ENABLED}: {_shown(enabled)}, not "true"'


def _shown(value: str | None) -> str:
    return "nothing" if value is None else clip(f'"{value}"', 40)
