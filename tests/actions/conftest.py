"""The stage on which actions are tried: made once, for all of them."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backendhealth.actions.sender import YOUNGEST
from backendhealth.kube.api import Api, connect
from tests.actions import services
from tests.actions.place import Place
from tests.actions.stage import ACCOUNT, Stage
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.servers.process import wait_until


@pytest.fixture(scope="session")
def stage(own_cluster: Cluster, product_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Pods that run, each with the label app=NAME."""
    folder: Path = tmp_path_factory.mktemp("images")
    for image in services.recipes(folder):
        own_cluster.load_image(images.write(image, folder / images.file_name(image.name)))
    own_cluster.kubectl("create", "namespace", "actions")
    stage = Stage(own_cluster, "actions", product_image)
    stage.grant(ACCOUNT)
    stage.apply(*services.PODS.values())
    wait_until(lambda: _steady(stage), 90, "all pods have run for long enough")
    yield stage
    own_cluster.kubectl("delete", "namespace", "actions", "--wait=false")


def _steady(stage: Stage) -> bool:
    found = json.loads(stage.kubectl("get", "pods", "-o", "json"))["items"]
    statuses = [one for pod in found for one in pod["status"].get("containerStatuses", [])]
    started = [one["state"].get("running", {}).get("startedAt") for one in statuses]
    if len(found) < len(services.PODS) or len(started) < len(found) or not all(started):
        return False
    return time.time() - max(dt.datetime.fromisoformat(at).timestamp() for at in started) > YOUNGEST + 1


@pytest.fixture
async def kube(stage: Stage) -> AsyncIterator[Api]:
    """The API server as admin, who may act as anybody."""
    async with await connect(str(stage.cluster.kubeconfig), None) as api:
        yield api


@pytest.fixture
def place(stand: Place) -> Iterator[Place]:
    """The module's `stand`, with nothing left on it afterwards of what was declared, allowed and done."""
    yield stand
    stand.clear()
