"""Probes PlaceOS as its users see it: one request for each symptom, each judged by itself.

The steps that need nothing of each other run at the same time: one after the other, whoever waits behind one that
hangs would have no verdict. It is as many requests, and they reach the API as one page load of a browser does.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from backendhealth.core.observation import Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import SERVICES, PlaceosProbe
from backendhealth.core.verdict import Verdict
from backendhealth.probes import placeos_steps as steps
from backendhealth.probes.endpoint import margin
from backendhealth.probes.exchange import ProbeError, failure, timed_out
from backendhealth.probes.placeos_client import Client, Reply, without
from backendhealth.probes.placeos_login import Identity, Login
from backendhealth.probes.placeos_socket import KeptSocket, Socket, end, open_new
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace

_BASE = "/api/engine/v2"
_REACH_SHARE = 0.4
"""Of the attempt's time, for the first request; what is left is for all that follows."""
_LOGIN_SHARE = 0.5
"""Of what is left then, for credentials and a token."""


def build(target: PlaceosProbe, context: Context) -> PlaceosExchange:
    """The exchange for `target`."""
    return PlaceosExchange(target, context)


class PlaceosExchange:
    """Keeps connections, a token and one WebSocket between attempts."""

    def __init__(self, target: PlaceosProbe, context: Context) -> None:
        self._target = target
        self._api = Client(target.url, context, target.tls, target.host)
        self._login = Login(target, context, self._api)
        self._sockets = Client(target.url, context, target.tls, target.host)
        self._kept = KeptSocket(self._sockets)
        self._services = {
            name: Client(url, context, target.tls, target.host if name == "auth" else None)
            for name, url in target.services.items()
        }

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Try every step; all parts are answered."""
        clients = [self._api, self._sockets, self._login.auth, *self._services.values()]
        for client in clients:
            client.begin()
        deadline = timeout - margin(timeout)
        async with asyncio.TaskGroup() as group:
            services = {name: group.create_task(self._service(name, deadline, trace)) for name in self._services}
            api = group.create_task(self._of_api(deadline, trace))
        own, parts = api.result()
        for name, task in services.items():
            parts[f"component/{name}"] = task.result()
        if "triggers" in services:
            parts["symptom/triggers"] = services["triggers"].result()
        contact = own.contact or any(client.trace.contact for client in clients)
        trace.contact = contact
        own = self._api.check_expiry(own)
        told = {name: parts[name] for name in self._target.parts}
        found = Finding(own.reason, own.message, facts=own.facts, steps=trace.steps, contact=contact, parts=told)
        return without(found, self._api.secrets)

    async def close(self) -> None:
        """Close all sockets at once, the WebSocket included."""
        self._kept.forget()
        await self._sockets.close()
        await self.renew()

    async def renew(self) -> None:
        """Close what only its age speaks against: the WebSocket stays, as those of users do."""
        await self._login.close()
        for client in (self._api, *self._services.values()):
            await client.close()

    async def _service(self, name: str, timeout: float, trace: Trace) -> Finding:
        client = self._services[name]
        path, _, query = SERVICES[name].partition("?")

        async def ask() -> Finding:
            reply = await client.ask("GET", path, query=dict([query.split("=")]) if query else None)
            return steps.service(name, client.place, reply)

        return await _tried(name, ask(), timeout, client.trace, trace)

    async def _of_api(self, timeout: float, trace: Trace) -> tuple[Finding, dict[str, Finding]]:
        """The finding of the API itself, and the symptoms that it answers."""
        loop = asyncio.get_running_loop()
        ends, share = loop.time() + timeout, timeout * _REACH_SHARE
        was_open = self._kept.open
        async with asyncio.TaskGroup() as group:
            kept = group.create_task(self._kept.check(share))
            reach = group.create_task(_tried("reach", self._version(), share, self._api.trace, trace))
        own = _about(self._api.place, reach.result())
        found = {"reach": own}
        if own.verdict is Verdict.HEALTHY:
            health, inside = await self._inside(ends, trace)
            own, found = steps.own_health(own, health), found | inside
        else:
            found |= _all_skipped(f"the API is not reached ({own.reason})")
        # what has ended in this attempt has ended, though a new one has taken its place
        taken = self._kept.open and not was_open
        found["websocket-open"] = found["websocket-new"] if taken else kept.result()
        return own, {f"symptom/{name}": finding for name, finding in found.items()}

    async def _version(self) -> Finding:
        return steps.version(self._api.place, await self._api.ask("GET", f"{_BASE}/version"))

    async def _inside(self, ends: float, trace: Trace) -> tuple[Reply | None, dict[str, Finding]]:
        """The answer of the health page, and the symptoms that need credentials."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            health = group.create_task(self._health(ends - loop.time()))
            made: dict[str, asyncio.Task[Finding]] = {}
            found: dict[str, Finding] = {}
            try:
                identity = await self._identity((ends - loop.time()) * _LOGIN_SHARE) if self._target.logs_in else None
            except ProbeError as error:
                login = Finding(error.reason, clip(error.message))
                found = _all_skipped(f"nobody is logged in ({login.reason})") | {"login": login}
            else:
                for name, step in self._steps(identity, health).items() if identity else ():
                    work = _tried(name, step, ends - loop.time(), self._api.trace, trace)
                    made[name] = group.create_task(work)
        found |= {name: task.result() for name, task in made.items()}
        if "functions" in found:
            found["modules"] = steps.both(found["modules"], found.pop("functions"))
        return health.result(), found

    async def _identity(self, timeout: float) -> Identity:
        """Who asks. Raises ProbeError."""
        try:
            async with asyncio.timeout(timeout):
                return await self._login.identity()
        except TimeoutError as error:
            if error.errno is not None:
                raise _as_probe_error(error, self._login.auth.trace) from None
            told = f"asking for a token: no answer within {timeout:.3g} s"
            raise ProbeError(Reason.TIMEOUT, told) from None
        except (OSError, ssl.SSLError) as error:
            raise _as_probe_error(error, self._login.auth.trace) from None

    async def _health(self, timeout: float) -> Reply | None:
        """What the API's deep health page answers; None when it doesn't: others tell that."""
        try:
            async with asyncio.timeout(timeout):
                return await self._api.ask("GET", f"{_BASE}/")
        except (ProbeError, OSError, ssl.SSLError):
            return None

    def _steps(self, identity: Identity, health: asyncio.Task[Reply | None]) -> dict[str, Coroutine[Any, Any, Finding]]:
        target, headers = self._target, identity.headers
        made = {"login": self._login.check(identity, health), "systems": self._systems(headers)}
        if target.system is not None:
            made["modules"] = self._modules(headers)
        if target.module is not None:
            made["functions"] = self._functions(headers)
        if target.function is not None:
            made["execute"] = self._execute(headers)
        if "symptom/websocket-new" in target.parts:
            made["websocket-new"] = self._new_socket(headers)
        return made

    async def _systems(self, headers: Mapping[str, str]) -> Finding:
        return steps.systems(await self._api.ask("GET", f"{_BASE}/systems", headers=headers, query={"limit": "1"}))

    async def _modules(self, headers: Mapping[str, str]) -> Finding:
        query = {"control_system_id": self._target.system or ""}
        return steps.modules(self._target, await self._api.ask("GET", f"{_BASE}/modules", headers=headers, query=query))

    async def _functions(self, headers: Mapping[str, str]) -> Finding:
        path = f"{_BASE}/systems/{self._target.system}/functions/{self._target.module}"
        return steps.functions(self._target, await self._api.ask("GET", path, headers=headers))

    async def _execute(self, headers: Mapping[str, str]) -> Finding:
        target = self._target
        path = f"{_BASE}/systems/{target.system}/{target.module}/{target.function}"
        headers = {**headers, "Content-Type": "application/json"}
        reply = await self._api.ask("POST", path, headers=headers, data=target.arguments or "[]")
        return steps.execute(target, reply)

    async def _new_socket(self, headers: Mapping[str, str]) -> Finding:
        self._sockets.secrets = self._api.secrets
        finding, socket = await open_new(self._sockets, self._target, headers)
        if socket is not None:
            await self._keep_or_end(socket)
        return finding

    async def _keep_or_end(self, socket: Socket) -> None:
        if self._kept.open:
            await end(socket)
        else:
            self._kept.keep(socket)


def _about(place: str, finding: Finding) -> Finding:
    """`finding`, whose message names `place`."""
    return finding if place in finding.message else replace(finding, message=clip(f"{place}: {finding.message}"))


def _all_skipped(because: str) -> dict[str, Finding]:
    names = ("login", "systems", "modules", "execute", "websocket-new")
    return {name: steps.skipped(because) for name in names}


def _as_probe_error(error: OSError, trace: Trace) -> ProbeError:
    found = failure(error, trace)
    return ProbeError(found.reason, found.message)


async def _tried(
    what: str, step: Coroutine[Any, Any, Finding], timeout: float, connecting: Trace, trace: Trace
) -> Finding:
    """The finding of `step`, named `what`, failures of network and TLS included; `connecting` times its connections."""
    try:
        with trace.step(what):
            async with asyncio.timeout(timeout):
                return await step
    except TimeoutError as error:
        if error.errno is not None:
            return _failed(what, error, connecting)
        if connecting.failed_in == "resolve":
            return timed_out(connecting, timeout)
        return Finding(Reason.TIMEOUT, f"{what}: no answer within {timeout:.3g} s", contact=connecting.contact)
    except (ProbeError, OSError, ssl.SSLError) as error:
        return _failed(what, error, connecting)


def _failed(what: str, error: Exception, connecting: Trace) -> Finding:
    found = failure(error, connecting)
    told = found.message if what in found.message else f"{what}: {found.message}"
    return Finding(found.reason, clip(told), contact=found.contact)
