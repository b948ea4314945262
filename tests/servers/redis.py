"""Real Redis 7 servers for tests: single ones with any option, replicas, Sentinel groups and Clusters."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.certs import Authority, Pair
from tests.servers.process import LOOPBACK, Process, find_binary, free_port, wait_until

SLOTS = 16384
SERVICE = "mymaster"  # the name under which the Sentinels of a group know their primary

Options = Mapping[str, str | Sequence[str]]


def binary() -> str:
    """Path of the redis-server executable."""
    return find_binary("redis-server", env="REDIS_SERVER_BINARY", remedy="install the package redis-server")


class RedisServer(Process):
    """One redis-server without persistence, on a free port; `options` are lines of redis.conf and win over defaults.

    `users` are ACL rules such as "reader on >secret ~* +get". With `tls` the server listens on `tls_port` too.
    A `replica_of` server follows another one, using its password.
    """

    def __init__(
        self,
        *,
        host: str = LOOPBACK,
        port: int | None = None,
        password: str | None = None,
        users: Sequence[str] = (),
        tls: Pair | None = None,
        authority: Authority | None = None,
        replica_of: RedisServer | None = None,
        options: Options | None = None,
        name: str = "redis",
        sentinel: bool = False,
    ) -> None:
        self.host = host
        self.port = port or free_port(host)
        self.tls_port = free_port(host) if tls else None
        self.password = password
        super().__init__(name, [], ready=self._ready)
        self.config = self.directory / "redis.conf"
        self._settings: dict[str, str | Sequence[str]] = {
            "bind": host,
            "port": str(self.port),
            "dir": str(self.directory),
            "save": '""',
            "repl-diskless-sync-delay": "0",
            "enable-debug-command": "yes",
            **_password_options(password),
            **_tls_options(self.tls_port, tls, authority),
            **_replica_options(replica_of),
            **({"user": list(users)} if users else {}),
            **(options or {}),
        }
        self.argv = [binary(), str(self.config), *(["--sentinel"] if sentinel else [])]

    def start(self, *, wait: bool = True) -> Self:
        self.write_config()
        return super().start(wait=wait)

    def write_config(self, **changed: str | Sequence[str]) -> None:
        """Write redis.conf with `changed` options (underscores for dashes), which later starts keep."""
        self._settings.update({key.replace("_", "-"): value for key, value in changed.items()})
        lines: list[str] = []
        for key, value in self._settings.items():
            lines += [f"{key} {one}" for one in ([value] if isinstance(value, str) else value)]
        self.config.write_text("\n".join(lines) + "\n")

    def close(self) -> None:
        self.kill()  # nothing to save, and a server that cannot save refuses to end
        super().close()

    @property
    def address(self) -> str:
        """host:port, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def client(self, **options: Any) -> redis.Redis:
        """A blocking client for the test's own use; close it."""
        given = {"host": self.host, "port": self.port, "password": self.password, "decode_responses": True}
        return redis.Redis(**{**given, "socket_timeout": 10, "retry": Retry(NoBackoff(), 0), **options})

    def execute(self, *command: str | int) -> Any:
        """One command over a connection of its own, as the default user."""
        with self.client() as client:
            return client.execute_command(*command)

    def info(self, section: str = "everything") -> dict[str, Any]:
        """INFO as a dictionary."""
        with self.client() as client:
            return dict(client.info(section))

    def break_persistence(self) -> None:
        """Make the server refuse writes with MISCONF: a snapshot is due and cannot be written."""
        (self.directory / "dump.rdb").mkdir()
        self.execute("CONFIG", "SET", "save", "3600 1")
        with contextlib.suppress(redis.ResponseError):
            self.execute("BGSAVE")
        wait_until(lambda: self.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "a failed snapshot")

    def load_slowly(self, *, keys: int = 20_000, delay_us: int = 2_000) -> None:
        """Restart with `keys` keys to load, each taking `delay_us` µs: LOADING until `finish_loading`."""
        self.execute("DEBUG", "POPULATE", keys)
        self.execute("SAVE")
        self.stop()
        self.write_config(key_load_delay=str(delay_us), loading_process_events_interval_bytes="1024")
        self.start()

    def finish_loading(self) -> None:
        """Let a slow load end and wait for that."""
        self.execute("CONFIG", "SET", "key-load-delay", 0)
        wait_until(lambda: self.info("persistence")["loading"] == 0, 10, "the data set loaded")

    def _ready(self) -> bool:
        reply = ask(self.host, self.port, b"PING\r\n")
        return reply[:1] in (b"+", b"-")  # an error (NOAUTH, LOADING) is an answer too


def ask(host: str, port: int, request: bytes) -> bytes:
    """The first bytes that a server answers to `request`; none when it does not."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""


def _password_options(password: str | None) -> dict[str, str]:
    return {"requirepass": password, "masterauth": password} if password else {}


def _tls_options(port: int | None, pair: Pair | None, authority: Authority | None) -> dict[str, str]:
    if pair is None:
        return {}
    return {
        "tls-port": str(port),
        "tls-cert-file": str(pair.cert_file),
        "tls-key-file": str(pair.key_file),
        "tls-ca-cert-file": str(authority.file if authority else pair.cert_file),
        "tls-auth-clients": "no",
    }


def _replica_options(primary: RedisServer | None) -> dict[str, str]:
    if primary is None:
        return {}
    return {"replicaof": f"{primary.host} {primary.port}", **_password_options(primary.password)}


class Together:
    """Servers that are started one after the other and closed together."""

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self.servers = list(servers)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def close(self) -> None:
        for server in reversed(self.servers):
            server.close()


class SentinelGroup(Together):
    """One primary, one replica and some Sentinels that know each other from the start and notice faults in 0.3 s."""

    def __init__(
        self, *, sentinels: int = 3, quorum: int = 2, password: str | None = None, sentinel_password: str | None = None
    ) -> None:
        self.primary = RedisServer(password=password, name="primary")
        self.replica = RedisServer(password=password, replica_of=self.primary, name="replica")
        ports = [free_port() for _ in range(sentinels)]
        self.sentinels = [self._sentinel(n, ports, quorum, password, sentinel_password) for n in range(sentinels)]
        super().__init__([self.primary, self.replica, *self.sentinels])

    def _sentinel(
        self, number: int, ports: Sequence[int], quorum: int, password: str | None, own_password: str | None
    ) -> RedisServer:
        lines = [
            f"myid {_node_id(number)}",
            f"monitor {SERVICE} {LOOPBACK} {self.primary.port} {quorum}",
            f"down-after-milliseconds {SERVICE} 300",
            f"failover-timeout {SERVICE} 1500",
            f"known-replica {SERVICE} {LOOPBACK} {self.replica.port}",
            *(
                f"known-sentinel {SERVICE} {LOOPBACK} {port} {_node_id(other)}"
                for other, port in enumerate(ports)
                if other != number
            ),
        ]
        if password:
            lines.append(f"auth-pass {SERVICE} {password}")
        return RedisServer(
            port=ports[number],
            password=own_password,
            options={"sentinel": lines},
            name=f"sentinel-{number}",
            sentinel=True,
        )

    def start(self) -> None:
        super().start()
        for sentinel in self.sentinels:
            # of replicas, Sentinel elects those whose INFO is not older than 5 PING periods; it asks them each second
            for period, milliseconds in (("PING", 250), ("INFO", 100), ("ASK", 50), ("PUBLISH", 100)):
                sentinel.execute("SENTINEL", "DEBUG", f"{period}-PERIOD", milliseconds)
        wait_until(self._settled, 15, "the Sentinels see the replica")

    def _settled(self) -> bool:
        return all(
            field(sentinel.execute("SENTINEL", "REPLICAS", SERVICE)[0], "master-link-status") == "ok"
            for sentinel in self.sentinels
        )

    def primary_port(self) -> int:
        """The port of the primary as the first running Sentinel names it."""
        sentinel = next(one for one in self.sentinels if one.running)
        return int(sentinel.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])


def _node_id(number: int) -> str:
    return f"{number + 1:040x}"


def field(reply: Any, name: str) -> str:
    """A field of a Sentinel's reply, which is a dictionary or a flat list of names and values."""
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return str(pairs.get(name, ""))


class RedisCluster(Together):
    """A Cluster of some primaries that share all slots, each with `replicas` replicas.

    A node counts as failed after `node_timeout` ms.
    """

    def __init__(
        self,
        *,
        primaries: int = 3,
        replicas: int = 0,
        password: str | None = None,
        node_timeout: int = 500,
        options: Options | None = None,
    ) -> None:
        def node(name: str) -> RedisServer:
            given = {
                "cluster-enabled": "yes",
                "cluster-port": str(free_port()),
                "cluster-node-timeout": str(node_timeout),
                "cluster-replica-validity-factor": "0",
                "cluster-allow-replica-migration": "no",
            }
            return RedisServer(password=password, options={**given, **(options or {})}, name=name)

        self.primaries = [node(f"node-{n}") for n in range(primaries)]
        self.replicas = [node(f"node-{n}-replica") for n in range(primaries * replicas)]
        super().__init__([*self.primaries, *self.replicas])

    def start(self) -> None:
        super().start()
        first, size = self.primaries[0], len(self.primaries)
        for number, node in enumerate(self.primaries):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.execute("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // size, SLOTS * (number + 1) // size - 1)
        for node in self.servers[1:]:
            first.execute("CLUSTER", "MEET", LOOPBACK, node.port, str(node._settings["cluster-port"]))
        wait_until(self._all_met, 15, "the nodes know each other")
        for number, replica in enumerate(self.replicas):
            replica.execute("CLUSTER", "REPLICATE", self.node_id(self.primaries[number % size]))
        self.wait_state("ok")
        wait_until(self._replicas_linked, 15, "the replicas follow")

    def node_id(self, node: RedisServer) -> str:
        return str(node.execute("CLUSTER", "MYID"))

    def cluster_info(self, node: RedisServer) -> dict[str, str]:
        """CLUSTER INFO as a dictionary."""
        lines = str(node.execute("CLUSTER", "INFO")).split()
        return dict(line.split(":", 1) for line in lines)

    def wait_state(self, state: str, timeout: float = 20) -> None:
        """Wait until every running node calls the cluster "ok" or "fail"."""
        wait_until(
            lambda: all(self.cluster_info(node)["cluster_state"] == state for node in self.servers if node.running),
            timeout,
            f"cluster_state:{state}",
        )

    def _all_met(self) -> bool:
        return all(
            str(node.execute("CLUSTER", "NODES")).count("connected") == len(self.servers) for node in self.servers
        )

    def _replicas_linked(self) -> bool:
        return all(replica.info("replication").get("master_link_status") == "up" for replica in self.replicas)
