"""What kopf calls: `backendhealth operator`, or `kopf run -m backendhealth.kube.handlers`.

Events only: a handler of changes would put its notes into each object, a daemon a finalizer on it.
"""

from __future__ import annotations

import os
from typing import Any

import kopf

from backendhealth.core.crd import PLURAL
from backendhealth.core.spec.backendhealth import GROUP, VERSION
from backendhealth.kube.api import NoCluster
from backendhealth.kube.app import App
from backendhealth.kube.health import ListenError
from backendhealth.kube.settings import Settings, SettingsError

_INACTIVITY = 70.0
"""Seconds of silence after which a watch is taken for dead; the API server sends bookmarks each minute."""


class _NothingKept(kopf.DiffBaseStorage):
    """No former state is kept or compared. kopf's own copy each object, and fail at one nested deep."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:  # noqa: ARG002
        """Nothing of it matters."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        """There is none."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Set kopf up; under `kopf run`, start what does the work, too."""
    settings.posting.enabled = False  # Events are ours to write, within their budget
    settings.scanning.disabled = True  # needs no right to see all CRDs and namespaces
    settings.peering.standalone = True  # Leases decide who works
    settings.watching.inactivity_timeout = _INACTIVITY
    settings.persistence.diffbase_storage = _NothingKept()
    if "app" in memo:
        return
    try:
        memo.app = App(Settings.from_sources(None, os.environ))
        await memo.app.start()
    except (SettingsError, NoCluster, ListenError) as error:
        raise kopf.PermanentError(str(error)) from None
    memo.ours = True


@kopf.on.login()
async def login(memo: Any, **_: Any) -> kopf.ConnectionInfo:
    """The same cluster and identity as all our other requests."""
    return kopf.ConnectionInfo(**memo.app.credentials())


@kopf.on.cleanup()
async def stop(memo: Any, **_: Any) -> None:
    """Under `kopf run`, stop what does the work."""
    if "ours" in memo:
        await memo.app.stop()


@kopf.on.event(GROUP, VERSION, PLURAL)
async def changed(event: kopf.RawEvent, memo: Any, **_: Any) -> None:
    """Feed in what the watch tells."""
    memo.app.deliver(event["type"], dict(event["object"]))
