"""Which cores are registered, read where they register: etcd or Redis."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from yarl import URL

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import CoreDiscovery, EtcdDiscovery, RedisDiscovery
from backendhealth.probes.drivers_nodes import Node
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.placeos_client import FORBIDDEN, Client, Reply, in_time
from backendhealth.probes.placeos_steps import unlike
from backendhealth.probes.redis_link import Access, ErrorReply, Link, split_address
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import load_credentials
from backendhealth.probes.trace import Trace

MAX_NODES = 256
_LOOKUP = "{service_core}_lookup"
_ETCD_PORT, _REDIS_PORT = 2379, 6379


class Registry:
    """Reads the registrations."""

    def __init__(self, spec: CoreDiscovery, context: Context) -> None:
        self._source: _InRedis | _InEtcd
        if spec.redis is not None:
            self._source = _InRedis(spec.redis, context)
        elif spec.etcd is not None:
            self._source = _InEtcd(spec.etcd, context)

    async def nodes(self, trace: Trace) -> list[Node]:
        """All registrations, of dead cores, too. Raises ProbeError and what a broken connection raises."""
        return await self._source.nodes(trace)

    async def close(self) -> None:
        """Close what is kept, at once."""
        await self._source.close()


class _InEtcd:
    """By etcd's JSON gateway: one read, of the first member that answers."""

    def __init__(self, spec: EtcdDiscovery, context: Context) -> None:
        self._spec = spec
        self._context = context
        self._clients = [Client(_with_port(url), context, spec.tls) for url in spec.endpoints]
        self._token = ""

    async def nodes(self, trace: Trace) -> list[Node]:
        prefix = f"{self._spec.namespace}/core/"
        body = {"key": _b64(prefix), "range_end": _b64(prefix[:-1] + chr(ord(prefix[-1]) + 1)), "limit": MAX_NODES}
        found = _read(await self._asked("/v3/kv/range", body, trace))
        return [Node(key.removeprefix(prefix), uri, expires) for key, uri, expires in found]

    async def _asked(self, path: str, body: Mapping[str, object], trace: Trace) -> Reply:
        failed: list[Exception] = []
        for client in self._clients:
            client.begin()
            client.trace = trace
            try:
                headers = await self._login(client)
                reply = await client.ask("POST", path, headers=headers, data=json.dumps(body))
            except (ProbeError, OSError) as error:
                failed.append(error)
                continue
            if reply.good:
                return reply
            self._token = ""  # it may have ended
            reason = Reason.PERMISSION_DENIED if reply.status == FORBIDDEN else Reason.REQUEST_FAILED
            failed.append(ProbeError(reason, f"etcd at {client.place} does not tell the cores: {reply.told}"))
        raise failed[-1]

    async def _login(self, client: Client) -> dict[str, str]:
        if self._token:  # a log-in costs etcd much: it is meant to
            return {"Authorization": self._token}
        auth, secrets = self._spec.auth, self._context.secrets
        login = await in_time(load_credentials(secrets, auth, need=("username", "password")))
        if auth is None or login is None:
            return {}
        client.secrets = (login.password,)
        body = {"name": login.username, "password": login.password}
        reply = await client.ask("POST", "/v3/auth/authenticate", data=json.dumps(body))
        token = reply.json.get("token") if isinstance(reply.json, dict) else None
        if not isinstance(token, str):
            told = f"etcd does not accept the credentials of Secret {auth.secret_ref.name}"
            raise ProbeError(Reason.AUTHENTICATION_FAILED, told)
        self._token = token
        for one in self._clients:
            one.secrets = (login.password, token)
        return {"Authorization": token}

    async def close(self) -> None:
        self._token = ""
        for client in self._clients:
            await client.close()


class _InRedis:
    """By a lookup hash, and a key that expires beside each of its fields."""

    def __init__(self, spec: RedisDiscovery, context: Context) -> None:
        url = URL(spec.url)
        access = Access(context.dialer, context.secrets, spec.auth, spec.tls, url.scheme == "rediss")
        host, port = split_address(f"{url.host}:{url.port or _REDIS_PORT}")
        self._link = Link(access, host, port, int(url.path.strip("/") or 0))

    async def nodes(self, trace: Trace) -> list[Node]:
        await self._link.ready(trace)
        (lookup,) = await self._link.ask(trace, ("lookup", ["HGETALL", _LOOKUP]))
        if isinstance(lookup, ErrorReply):
            raise _untold(lookup)
        flat = [one for one in lookup if isinstance(one, str)] if isinstance(lookup, list) else []
        fields = dict([*zip(flat[::2], flat[1::2], strict=False)][:MAX_NODES])
        if not fields:
            return []
        there = await self._link.ask(trace, *(("lookup", ["EXISTS", name]) for name in fields))
        for one in there:
            if isinstance(one, ErrorReply):  # that we are not told is no sign of a dead core
                raise _untold(one)
        return [
            Node(name.rpartition(".")[2], uri, expires=alive == 1)
            for (name, uri), alive in zip(fields.items(), there, strict=True)
        ]

    async def close(self) -> None:
        self._link.drop()


def _untold(error: ErrorReply) -> ProbeError:
    told = f"Redis does not tell the cores: {error.code} {error.text}"
    if error.code == "NOPERM":
        return ProbeError(Reason.PERMISSION_DENIED, f"{told}; grant +hgetall +exists on ~{{service_core}}*")
    return ProbeError(Reason.REQUEST_FAILED, told)


def _read(reply: Reply) -> list[tuple[str, str, bool]]:
    """Key, value and whether it has a lease, of etcd's answer."""
    pairs = reply.json.get("kvs", []) if isinstance(reply.json, dict) else None
    if not isinstance(pairs, list):
        raise ProbeError(Reason.PROTOCOL_ERROR, unlike("reading etcd's keys", reply).message)
    try:
        return [(_text(one["key"]), _text(one["value"]), one.get("lease", "0") not in ("0", 0)) for one in pairs]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ProbeError(Reason.PROTOCOL_ERROR, unlike("reading etcd's keys", reply).message) from None


def _with_port(url: str) -> str:
    there = URL(url)
    return url if there.explicit_port else str(there.with_port(_ETCD_PORT))


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(value: Any) -> str:
    return clip(base64.b64decode(value, validate=True).decode("utf-8", "replace"), 512)
