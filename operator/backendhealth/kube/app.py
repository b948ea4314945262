"""The operator's parts, built from the settings and wired together; started and stopped as one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any

from backendhealth.actions.registry import performers
from backendhealth.core.crd import PLURAL
from backendhealth.core.leasing import shard_of
from backendhealth.core.spec.backendhealth import API_VERSION, BackendHealth, Probe
from backendhealth.core.spec.hosts import hosts_of
from backendhealth.core.verdict import Verdict
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import Signal
from backendhealth.engine.remediation.ports import Stored
from backendhealth.engine.remediation.remediator import Remediator
from backendhealth.kube import logs
from backendhealth.kube.acting import Identities
from backendhealth.kube.api import ApiError, ApiUnavailable, Json, connect
from backendhealth.kube.audience import Audience
from backendhealth.kube.controller import Controller
from backendhealth.kube.events import EventRecorder
from backendhealth.kube.health import Health
from backendhealth.kube.leases import Leases
from backendhealth.kube.metrics import Metrics
from backendhealth.kube.overlay import Overlay
from backendhealth.kube.placeoshttp import PlaceosHttp
from backendhealth.kube.podlogs import PodLogs
from backendhealth.kube.podwatch import PodWatches
from backendhealth.kube.profiles import Profiles
from backendhealth.kube.remediations import Remediations
from backendhealth.kube.resync import Resync
from backendhealth.kube.secrets import SecretReader
from backendhealth.kube.settings import Settings
from backendhealth.kube.switch import ConfigMapSwitch
from backendhealth.kube.targets import Targets
from backendhealth.kube.writer import StatusWriter
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build

log = logging.getLogger(__name__)

FLUSH = 1.0
"""Seconds in which waiting statuses are written before our Leases are released."""
MOST_LATE = 60.0
"""Seconds by which an attempt may be overdue before the scheduler is taken for stuck."""
DEPTH = 10_000
"""Levels to which the API server takes JSON. Whoever may write an object may nest its managedFields that deep, and one
that can't be read would blind us for all others of its list."""
_WAIT = 5.0  # seconds between two looks whether our kinds are there


class App:
    """The operator without kopf, which delivers what it sees. `start` and `stop` are called once, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics(
            shards=settings.shards if settings.leader_elect else 0, heartbeat=settings.heartbeat_seconds
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.failed = False
        """Whether it ended by a fault of its own."""

    async def start(self) -> None:
        """Start everything and wait until our kinds are served. Raises NoCluster, ListenError."""
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        logs.configure(settings.log_format, settings.log_level)
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 2 * DEPTH))
        self._api = await connect(settings.kubeconfig or None, settings.context or None, self._metrics.api_request)
        self._build()
        try:
            await self._health.start()
            await self._kinds_served()
        except BaseException:  # cancelled, too: a signal ends the waiting
            await self.stop()
            raise
        self._run("targets", self._targets.run())
        self._run("events", self._events.run())
        self._run("writer", self._writer.run())
        self._run("engine", self._engine.run())
        self._run("profiles", self._profiles.run())
        self._run("remediations", self._store.run())
        self._run("remediator", self._remediator.run())
        self._run("resync", self._resync.run())
        if self._leases is not None:
            self._run("leases", self._leases.run())

    def deliver(self, kind: str | None, raw: Json) -> None:
        """Take an event of the watch, from any thread; see Resync.delivered."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: we have stopped
            self._loop.call_soon_threadsafe(self._delivered, kind, raw)

    async def until_stopping(self) -> None:
        """Until SIGTERM or SIGINT comes, as it does from ourselves after a fault of our own."""
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await stopping.wait()

    async def stop(self) -> None:
        """Begin no remediation any more, stop probing, write what waits, release the Leases."""
        if self._stopping:
            return
        self._stopping = True
        await self._remediator.close()
        await self._engine.close()
        await self._controller.close()
        await self._writer.flush(FLUSH)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._controller.close()
        await self._pods.close()
        await self._secrets.close()
        await self._health.stop()
        await self._api.close()

    def credentials(self) -> Json:
        """For kopf's own client."""
        return self._api.credentials()

    def _build(self) -> None:
        settings, api = self._settings, self._api
        self._leases = self._elected() if settings.leader_elect else None
        self._writer = StatusWriter(
            api,
            may_write=self._serves,
            heartbeat=settings.heartbeat_seconds,
            clock=time.time,
            count=self._metrics.status_write,
        )
        self._events = EventRecorder(
            api,
            identity=settings.identity,
            per_minute=settings.events_per_minute,
            clock=time.time,
            count=self._metrics.event,
        )
        self._targets = Targets(api, allow=settings.allow_targets, deny=settings.deny_targets)
        self._dialer = Dialer(guard=self._targets.guard)
        self._secrets = SecretReader(api, ttl=settings.secret_ttl_seconds)
        self._pods = PodWatches(api)
        self._audience = Audience(self._metrics, self._events)
        self._store = Remediations(api, settings.namespaces, self._policies_changed)
        self._controller = Controller(
            writer=self._writer,
            serves=self._serves,
            clock=time.time,
            audience=self._audience,
            overlay=Overlay(self._store.holds, time.time),
        )
        self._remediator = self._acting_under_policies()
        self._engine = Engine(
            open_prober=self._open,
            clock=time.time,
            sink=self._controller.told,
            record=self._metrics.observed,
            lateness=self._metrics.lateness,
            read_logs=PodLogs(api, self._pods, self._controller.logs_read).read,
            proven=self._remediator.changed,
        )
        self._profiles = Profiles(api, settings.namespaces, self._profiles_changed)
        self._controller.drive(self._engine, self._profiles.knowledge_of, self._remediator.changed)
        self._resync = Resync(
            api, self._controller, settings.namespaces, settings.resync_seconds, self._remediator.everything_changed
        )
        self._metrics.read_from(
            queue=lambda: self._writer.queue, watch_age=self._resync.watch_age, overdue=self._engine.most_late
        )
        self._health = Health(
            settings.listen_address,
            self._metrics,
            live={"scheduler": self._scheduler_stuck, "watch": self._resync.stuck},
            ready={"list": lambda: None if self._resync.listed else "the API server has not answered a list yet"},
        )

    def _acting_under_policies(self) -> Remediator:
        settings, api = self._settings, self._api
        self._metrics.remediations.read_from(lambda: self._store.under_way(self._serves))
        return Remediator(
            store=self._store,
            situations=self._controller,
            open_acting=Identities(
                api,
                http=PlaceosHttp(self._dialer, self._secrets).of,
                helper_image=settings.helper_image,
                field_manager=settings.field_manager,
            ),
            performers=performers(),
            switch=ConfigMapSwitch(
                api, namespace=settings.lease_namespace, name=settings.switch, allowed=settings.remediation
            ),
            serves=lambda namespace: self._serves(namespace) and self._resync.whole,  # a part may look like a storm
            tell=self._controller.remediated,
            announce=self._announced,
            clock=time.time,
            identity=self._leases.identity if self._leases is not None else settings.identity,
        )

    def _announced(self, stored: Stored) -> None:
        """A Remediation has come to another phase."""
        cause, namespace = stored.remediation.spec.cause, stored.remediation.metadata.namespace
        situation = self._controller.situation(f"{namespace}/{cause.backend_health}") if cause is not None else None
        component = situation.components.get(cause.component) if situation is not None and cause is not None else None
        failing = component is not None and component.verdict is Verdict.UNHEALTHY
        self._audience.remediated(stored, component.since if failing and component is not None else None)

    def _policies_changed(self, namespace: str) -> None:
        if not self._stopping:
            self._controller.policies_changed(namespace)
            self._remediator.object_changed(namespace)

    def _delivered(self, kind: str | None, raw: Json) -> None:
        if not self._stopping:
            self._resync.delivered(kind, raw)

    def _profiles_changed(self) -> None:
        if not self._stopping:
            self._controller.reconsider()

    def _elected(self) -> Leases:
        settings = self._settings
        return Leases(
            self._api,
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            shards=settings.shards,
            identity=settings.identity,
            acquired=self._acquired,
            lost=self._lost,
            taken=self._drop,
        )

    def _serves(self, namespace: str) -> bool:
        """Whether we may act in the namespace at this very moment."""
        if self._settings.namespaces and namespace not in self._settings.namespaces:
            return False
        return self._leases is None or self._leases.holds_namespace(namespace)

    def _acquired(self, shard: int) -> None:
        self._metrics.leader(shard, held=True)
        self._store.doubt()  # whoever served before us may have written what we have not seen
        self._resync.doubt()

    def _lost(self, shard: int) -> None:
        self._metrics.leader(shard, held=False)
        if self._leases is not None and not self._leases.unreachable(shard):
            self._drop(shard)
        # else nobody can have taken it while nobody can ask: look on, write nothing, and go on from here afterwards

    def _drop(self, shard: int) -> None:
        self._controller.drop(lambda namespace: shard_of(namespace, self._settings.shards) == shard)

    def _open(self, resource: BackendHealth, probe: Probe, changed: Signal) -> Prober:
        namespace, account = resource.metadata.namespace, resource.spec.service_account_name
        secrets = self._secrets.of(namespace, resource.metadata.name, account, hosts_of(probe.target))
        dialer = self._dialer.bound(secrets.check_host, namespace)
        context = Context(dialer, secrets, namespace, self._pods, changed)
        return Prober(build(probe, context), secrets)

    def _scheduler_stuck(self) -> str | None:
        late = self._engine.most_late()
        return f"a probe is overdue by {late:.0f} s" if late > MOST_LATE else None

    async def kinds_served(self) -> None:
        """Wait until our CRDs are there; may be awaited in any loop."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._kinds_served(), self._loop))

    async def _kinds_served(self) -> None:
        told = ""
        while why := await self._not_served():
            if why != told:
                log.warning("waiting: %s is not served yet (kubectl apply -k crds): %s", PLURAL, why)
            told = why
            await asyncio.sleep(_WAIT)

    async def _not_served(self) -> str:
        """Why BackendHealths can't be asked for; empty when they can. Our other kinds may be there without them."""
        try:
            found = await self._api.request("GET", f"/apis/{API_VERSION}")
        except (ApiError, ApiUnavailable) as error:
            return str(error)
        there = {one.get("name") for one in found.get("resources", ())}
        return "" if PLURAL in there else f"{API_VERSION} is without it"

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """No part ends by itself: when one does, that is our own fault, and a restart is the way out."""
        if self._stopping or task.cancelled():
            return
        self.failed = True
        log.critical("%s ended by its own fault: stopping", task.get_name(), exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)
