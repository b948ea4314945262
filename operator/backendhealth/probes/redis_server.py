"""What one Redis server says of itself: PING and INFO judged, and a write where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from backendhealth.core.observation import Fact, Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.redis_link import ErrorReply, Link, Reply
from backendhealth.probes.trace import Trace

Role: TypeAlias = Literal["primary", "replica", "any"]
Info: TypeAlias = Mapping[str, str]
Problem: TypeAlias = tuple[Reason, str]

WRITE_KEY = "backendhealth:probe"
WRITE_SECONDS = 60
SPARE_BYTES = 64 * 1024
"""maxmemory counts as reached this close to it: the buffers of one client come and go, and decide about the rest."""

_FIELDS = (
    *("redis_version", "redis_mode", "run_id", "loading"),
    *("role", "master_host", "master_port", "master_link_status", "master_sync_in_progress", "connected_slaves"),
    *("used_memory", "mem_not_counted_for_evict", "maxmemory", "maxmemory_policy"),
    *("connected_clients", "cluster_connections", "maxclients"),
    *("rdb_last_bgsave_status", "aof_last_write_status"),
)
_ROLES = {"master": "primary", "slave": "replica"}
_ERRORS: Mapping[str, Problem] = {
    "LOADING": (Reason.LOADING, "is loading its data set and refuses requests"),
    "MISCONF": (Reason.PERSISTENCE_FAILING, "cannot save to disk and therefore refuses writes (MISCONF)"),
    "MASTERDOWN": (Reason.MASTER_LINK_DOWN, "has lost its primary and refuses to serve stale data (MASTERDOWN)"),
    "OOM": (Reason.OUT_OF_MEMORY, "refuses writes: maxmemory is reached and nothing may be evicted (OOM)"),
    "READONLY": (Reason.READ_ONLY_REPLICA, "refuses writes: it is a read-only replica"),
    "NOREPLICAS": (
        Reason.NOT_ENOUGH_REPLICAS,
        "refuses writes: fewer replicas are in step than min-replicas-to-write asks for",
    ),
    "BUSY": (Reason.OVERLOADED, "is blocked by a script that runs too long: SCRIPT KILL ends it"),
    "CLUSTERDOWN": (Reason.SLOTS_UNCOVERED, "refuses requests: the cluster is down (CLUSTERDOWN)"),
    "MOVED": (Reason.PROTOCOL_ERROR, "is a node of a Redis Cluster: probe it by `cluster` instead of `url`"),
}


async def examine(link: Link, trace: Trace, role: Role, *, write: bool = False) -> Finding:
    """What PING and INFO, and a write on request, say about a server that should have `role`.

    Raises what a broken connection raises.
    """
    ping, info = await link.ask(trace, ("ping", ["PING"]), ("info", ["INFO"]))
    problems: list[Problem] = []
    facts: dict[str, Fact] = {}
    if isinstance(info, ErrorReply):
        problems.append(refusal(info, "INFO", link.address))
    else:
        parsed = _parse(info, link.address)
        facts = _facts(parsed)
        problems += _judge(parsed, role, link.address)
    if isinstance(ping, ErrorReply):
        problems.append(refusal(ping, "PING", link.address))
    elif ping != "PONG":
        raise ProbeError(Reason.PROTOCOL_ERROR, f"{link.address} answers PING with something else than PONG")
    if write and not any(reason.verdict is Verdict.UNHEALTHY for reason, _ in problems):
        refused = await write_key(link, trace)
        problems += [refusal(refused, "SET", link.address)] if refused else []
    if problems:
        reason, message = max(problems, key=lambda problem: problem[0].verdict.rank)  # the first of the worst
        return Finding(reason, message, facts=facts)
    return Finding(Reason.PROBE_SUCCEEDED, _proof(facts) + (", took a write" if write else ""), facts=facts)


async def write_key(link: Link, trace: Trace, key: str = WRITE_KEY) -> ErrorReply | None:
    """Set a small, expiring key; the server's error when it refuses."""
    (reply,) = await link.ask(trace, ("write", ["SET", key, "1", "EX", WRITE_SECONDS]))
    if isinstance(reply, ErrorReply):
        return reply
    if reply != "OK":
        raise ProbeError(Reason.PROTOCOL_ERROR, f"{link.address} answers SET with something else than OK")
    return None


def refusal(error: ErrorReply, command: str, address: str) -> Problem:
    """Reason and message of the server's error reply to `command`."""
    if error.code == "NOPERM":
        return Reason.PERMISSION_DENIED, f"{address}: the user may not run {command}: {error.text}"
    if error.code == "ERR" and error.text.startswith("unknown command"):
        return Reason.PERMISSION_DENIED, f"{address} does not offer {command}: renamed, or a proxy that lacks it"
    reason, told = _ERRORS.get(
        error.code, (Reason.PROTOCOL_ERROR, f"answers {command} with an error: {error.code} {error.text}")
    )
    return reason, f"{address} {told}"


def _parse(info: Reply, address: str) -> Info:
    parsed = {}
    if isinstance(info, str):
        for name in _FIELDS:  # a tenth of what INFO says: finding these takes a third of the time of splitting it all
            found = info.find(f"\n{name}:")
            if found >= 0:
                parsed[name] = info[found + len(name) + 2 : info.find("\r\n", found + 1)]
    if "redis_version" not in parsed:
        raise ProbeError(Reason.PROTOCOL_ERROR, f"{address} answers INFO, but not as Redis does")
    if parsed.get("role") not in _ROLES:
        kind = "a Sentinel: probe it by `sentinel`" if parsed.get("redis_mode") == "sentinel" else "no data server"
        raise ProbeError(Reason.PROTOCOL_ERROR, f"{address} is {kind}")
    return parsed


def _number(info: Info, key: str) -> int:
    text = info.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _facts(info: Info) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "version": info["redis_version"],
        "runId": info.get("run_id", ""),
        "role": _ROLES[info["role"]],
        "usedMemoryBytes": _number(info, "used_memory"),
        "maxMemoryBytes": _number(info, "maxmemory"),
        "maxMemoryPolicy": info.get("maxmemory_policy", ""),
        "connectedClients": _number(info, "connected_clients"),
        "maxClients": _number(info, "maxclients"),
        "lastSaveOk": info.get("rdb_last_bgsave_status") != "err" and info.get("aof_last_write_status") != "err",
    }
    if info["role"] == "master":
        facts["replicas"] = _number(info, "connected_slaves")
    else:
        facts["primary"] = _primary(info)
        facts["link"] = info.get("master_link_status", "")
    return facts


def _primary(info: Info) -> str:
    return host_port(info.get("master_host", ""), _number(info, "master_port"))


def _judge(info: Info, role: Role, address: str) -> list[Problem]:
    """What is wrong by INFO, the cause before its consequences."""
    problems: list[Problem] = []
    if info.get("loading") == "1":
        problems.append(refusal(ErrorReply("LOADING", ""), "INFO", address))
    if info["role"] == "slave":
        problems += _judge_replica(info, role, address)
    elif role == "replica":
        problems.append((Reason.MASTER_LINK_DOWN, f"{address} is a primary that follows nobody; a replica is expected"))
    elif _memory_full(info):
        limit = _number(info, "maxmemory")
        problems.append(
            (Reason.OUT_OF_MEMORY, f"{address} refuses writes: maxmemory ({limit} bytes) is reached, with noeviction")
        )
    taken = sum(_number(info, key) for key in ("connected_clients", "connected_slaves", "cluster_connections"))
    limit = _number(info, "maxclients")
    if 0 < limit <= taken:
        problems.append(
            (Reason.TOO_MANY_CLIENTS, f"{address} turns new clients away: its maxclients ({limit}) is reached")
        )
    return problems


def _judge_replica(info: Info, role: Role, address: str) -> list[Problem]:
    up = info.get("master_link_status") == "up"
    if role == "primary":
        more = "" if up else ", and its link to that is down"
        return [
            (
                Reason.READ_ONLY_REPLICA,
                f"{address} refuses writes: it is a replica of {_primary(info)}{more}; a primary is expected",
            )
        ]
    if up:
        return []
    doing = ": it is copying the data set" if info.get("master_sync_in_progress") == "1" else ": its data is stale"
    return [(Reason.MASTER_LINK_DOWN, f"{address} has no link to its primary {_primary(info)}{doing}")]


def _memory_full(info: Info) -> bool:
    """Whether writes are refused by now. Redis leaves the buffers of replicas and AOF out of the account."""
    limit = _number(info, "maxmemory")
    counted = _number(info, "used_memory") - _number(info, "mem_not_counted_for_evict")
    return limit > 0 and info.get("maxmemory_policy") == "noeviction" and counted + SPARE_BYTES > limit


def _proof(facts: Mapping[str, Fact]) -> str:
    if facts["role"] == "replica":
        return f"replica of {facts['primary']} with its link up, Redis {facts['version']}"
    count = facts["replicas"]
    return f"primary with {count} replica{'' if count == 1 else 's'}, Redis {facts['version']}"
