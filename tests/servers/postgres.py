"""Real PostgreSQL servers for tests: primaries and streaming standbys on loopback, with TLS and SCRAM passwords."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.servers.certs import Pair
from tests.servers.process import (
    LOOPBACK,
    Process,
    ServerFailed,
    cache_dir,
    find_binary,
    free_port,
    wait_until,
)

SUPERUSER = "postgres"
PASSWORD = "superuser-of-a-test"
_REMEDY = "install Debian's postgresql"
_SEGMENT_LINE = 6  # of postmaster.pid: key and id
_STATUS_LINE = 7  # of postmaster.pid: starting, stopping, ready, standby
_ROOM = 2 << 30  # bytes, for a few dozen servers
_NETS = ("127.0.0.0/8", "::1/128")
_SETTINGS = {
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "8MB",
    "dynamic_shared_memory_type": "mmap",  # below the data directory: nothing outlives a killed server
    "max_connections": "20",
    "jit": "off",
    "autovacuum": "off",
    "logging_collector": "off",
    "log_min_messages": "log",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "min_wal_size": "2MB",
    "max_wal_size": "8MB",
    "log_checkpoints": "off",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
}


def binary(name: str) -> str:
    """Path of one of PostgreSQL's programs: POSTGRES_BIN_DIR, then Debian's newest version, then PATH."""
    named = os.environ.get("POSTGRES_BIN_DIR")
    directories = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)[::-1]
    for directory in directories:
        if os.access(directory / name, os.X_OK):
            return str(directory / name)
    return find_binary(name, env=f"POSTGRES_{name.upper()}", remedy=f"{_REMEDY}, or set POSTGRES_BIN_DIR")


def _version(directory: Path) -> float:
    try:
        return float(directory.parent.name)
    except ValueError:
        return 0.0


def server_user() -> str | None:
    """The account to run as: PostgreSQL refuses root. None = the one we run as already."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _own(*paths: Path) -> None:
    """Give `paths`, but not what is below them, to the server's account."""
    user = server_user()
    if user is not None:
        for path in paths:
            shutil.chown(path, user)


def _run(*argv: str, env: Mapping[str, str] | None = None, user: str | None = None) -> str:
    done = subprocess.run(
        argv,
        check=False,  # its own words make the better error
        capture_output=True,
        text=True,
        timeout=60,
        user=user,
        cwd="/",
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **(env or {})},
    )
    if done.returncode:
        raise ServerFailed(f"{Path(argv[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _memory() -> Path | None:
    """A file system in memory, if there is one with room: copying a cluster is most of a server's start."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else None


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; Z also when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "Z"
    return stat.rpartition(")")[2].split()[0]


def _is_stopped(pid: int) -> bool:
    return _state(pid) in "TtZ"


def _is_gone(pid: int) -> bool:
    return _state(pid) == "Z"


def template() -> Path:
    """A fresh cluster made once by initdb and kept; servers start from a copy."""
    version = _run(binary("postgres"), "--version").split()[2]
    kept = cache_dir() / "postgres" / f"{version}-2"
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bh-initdb-") as made:
        scratch = Path(made)
        secret = scratch / "password"
        secret.write_text(PASSWORD)
        data = scratch / "data"
        data.mkdir(mode=0o700)
        _own(scratch, data, secret)
        argv = ("-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(secret))
        _run(binary("initdb"), *argv, "-E", "UTF8", "--no-locale", "-N", "--wal-segsize=1", user=server_user())
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            copy = Path(beside) / "data"
            shutil.copytree(data, copy)
            _own(copy, *copy.rglob("*"))
            with contextlib.suppress(OSError):  # another test process was quicker: same content
                copy.rename(kept)
    return kept


class Postgres(Process):
    """One server. `stop()` is PostgreSQL's fast shutdown; freezing and killing take its backends along.

    `settings` go into postgresql.conf; `tls` makes it speak TLS, `require_tls` refuse anything else, `client_ca`
    ask for a certificate of that authority. `standby_of` makes a streaming standby of a running primary.
    """

    def __init__(
        self,
        *,
        host: str = LOOPBACK,
        settings: Mapping[str, str] | None = None,
        tls: Pair | None = None,
        require_tls: bool = False,
        client_ca: Path | None = None,
        standby_of: Postgres | None = None,
    ) -> None:
        self.host = host
        self.port = free_port(host)
        super().__init__(
            "postgres",
            [binary("postgres")],
            ready=lambda: self.status() in ("ready", "standby"),
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            user=server_user(),
            parent=_memory(),
        )
        self.data = self.directory / "data"
        self.argv += ["-D", str(self.data)]
        if standby_of is None:
            _run("cp", "-Rp", str(template()), str(self.data))  # keeps the owner; far quicker than shutil
        else:
            self._copy_primary(standby_of)
        self._configure({**_SETTINGS, **(settings or {})}, tls, require_tls, client_ca)
        self.data.chmod(0o700)
        _own(self.directory, self.data)

    def status(self) -> str:
        """What the postmaster says of itself: starting, ready, standby, stopping; empty when it does not run."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        return lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """Run `statements` as the superuser; the last one's unaligned output. Raises ServerFailed."""
        argv = [binary("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        argv += ["-h", self.host, "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        for statement in statements:
            argv += ["-c", statement]
        return _run(*argv, env={"PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "10"}).strip()

    def add_role(self, name: str, password: str, options: str = "") -> None:
        """Make a login role."""
        self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {options}")

    def backends(self) -> list[int]:
        """Pids of the postmaster's children."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def client_backends(self) -> list[int]:
        """Pids of the backends that serve a client, by the superuser's view of them."""
        out = self.sql(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [int(line) for line in out.splitlines()]

    def start(self, *, wait: bool = True) -> Self:
        # What a killed postmaster leaves would pass for a status of the new one.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return super().start(wait=wait)

    def begin_smart_shutdown(self) -> None:
        """Refuse newcomers, and end when the last client leaves."""
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: "smart shutdown" in self.log(), 10, "smart shutdown begun")

    def stop(self, timeout: float = 10.0) -> None:
        """Fast shutdown: clients are cut off, the cluster is left clean; SIGKILL after `timeout` seconds."""
        if not self.running or self._popen is None:
            return
        self.resume()
        os.kill(self.pid, signal.SIGINT)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the postmaster and its backends at once, as the kernel's out-of-memory killer would."""
        family = [*self.backends(), self.pid] if self.running else []
        super().kill()
        for pid in family[:-1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(map(_is_gone, family)), 10, "postgres and its backends gone")

    def close(self) -> None:
        self.stop()
        self._remove_segment()
        super().close()

    def freeze(self) -> None:
        """SIGSTOP to the postmaster first, so that it forks no more, then to every backend."""
        super().freeze()
        self._signal_backends(signal.SIGSTOP)
        wait_until(lambda: all(map(_is_stopped, [self.pid, *self.backends()])), 5, "postgres frozen")

    def resume(self) -> None:
        self._signal_backends(signal.SIGCONT)
        super().resume()

    def renew(self, tls: Pair) -> None:
        """Give new connections another certificate."""
        self._install(tls)
        before = self.log_path.stat().st_size
        self.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.log_path.stat().st_size > before, 5, "configuration reloaded")

    def _install(self, tls: Pair) -> None:
        cert, key = self.data / "server.crt", self.data / "server.key"
        cert.write_bytes(tls.cert)
        key.write_bytes(tls.key)
        key.chmod(0o600)
        _own(cert, key)

    def _remove_segment(self) -> None:
        """Remove the few bytes of System V memory that a killed server leaves."""
        with contextlib.suppress(OSError, IndexError, ServerFailed):  # a clean stop has removed it, and the file
            _run("ipcrm", "-m", (self.data / "postmaster.pid").read_text().splitlines()[_SEGMENT_LINE].split()[1])

    def _signal_backends(self, number: signal.Signals) -> None:
        for pid in self.backends():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _copy_primary(self, primary: Postgres) -> None:
        conninfo = f"host={primary.host} port={primary.port} user={SUPERUSER} password={PASSWORD}"
        _own(self.directory)
        argv = ("-d", conninfo, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        _run(binary("pg_basebackup"), *argv, user=self.user)

    def _configure(self, settings: dict[str, str], tls: Pair | None, require_tls: bool, client_ca: Path | None) -> None:
        settings |= {"listen_addresses": self.host, "port": str(self.port)}
        if tls is not None:
            settings |= {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
            self._install(tls)
        if client_ca is not None:
            settings["ssl_ca_file"] = "client-ca.crt"
            copied = self.data / "client-ca.crt"
            shutil.copyfile(client_ca, copied)
            _own(copied)
        kind = "hostssl" if require_tls else "host"
        check = " clientcert=verify-ca" if client_ca is not None else ""
        rules = [f"{kind} {what} all {net} scram-sha-256{check}" for what in ("all", "replication") for net in _NETS]
        (self.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        with (self.data / "postgresql.conf").open("a") as config:
            config.writelines(f"{name} = '{value}'\n" for name, value in settings.items())


def wait_streaming(primary: Postgres) -> None:
    """Wait until a standby streams from `primary`."""
    wait_until(lambda: primary.sql("SELECT count(*) FROM pg_stat_replication") == "1", 20, "standby streams")
