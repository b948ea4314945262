"""PID 1 of the node's namespaces: gives them their mounts and addresses, then waits and reaps.

Run by node.py: `unshare … python -m tests.cluster.init DIRECTORY IP NAME SERVICES [CONTROLLERS…]`. Writes
DIRECTORY/ready.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# What kubelet, containerd and CNI plugins leave at fixed places goes with the mount namespace. The folders that are
# missing are made in a layer over the machine's own, except the last: the cluster's own files may be in /tmp.
LAYERED = ("/var/lib", "/var/log")
PRIVATE = ("/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/tmp/hostpath_pv")
# The kubelet insists on these settings of the whole kernel: show it them, and leave the machine's own as they are.
SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_IN_NAMESPACE = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def _mount_private() -> None:
    _run("mount", "--make-rshared", "/")
    _mount_tmpfs("/run")
    for path in LAYERED:
        upper, work = (Path("/run/layers") / path.lstrip("/") / part for part in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        _run("mount", "-t", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", "node", path)
    for path in PRIVATE:
        Path(path).mkdir(exist_ok=True)
        _mount_tmpfs(path)


def _mount_tmpfs(path: str) -> None:
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "node", path)


def _mount_cgroups(controllers: list[str]) -> None:
    """The hierarchies as this cgroup namespace sees them, and only those."""
    root = Path("/sys/fs/cgroup")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "cgroup_root", str(root))
    for group in controllers:
        name = group.removeprefix("name=")
        (root / name).mkdir()
        options = f"none,{group}" if group.startswith("name=") else group
        _run("mount", "-t", "cgroup", "-o", options, "cgroup", str(root / name))
        for alias in name.split(",") if "," in name else ():
            (root / alias).symlink_to(name)


def _set_up_network(address: str, services: str) -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{address}/32", "dev", "lo")  # a kubelet refuses a loopback address for its own
    # Service addresses need a route, or a packet never reaches kube-proxy's rules
    _run("ip", "route", "add", services, "dev", "lo", "src", address)
    for name, value in _IN_NAMESPACE.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value)


def _show_sysctls() -> None:
    shown = Path("/run/sysctl")
    shown.mkdir()
    for name, value in SYSCTLS.items():
        file = shown / name.replace("/", ".")
        file.write_text(f"{value}\n")
        _run("mount", "--bind", str(file), f"/proc/sys/{name}")


def _reap() -> None:
    """Until it is killed: orphans become children of PID 1."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()  # one that ended just before is reaped with the next: nobody waits for it


def main() -> None:
    """Set everything up, say so, stay."""
    directory, address, name, services, *controllers = sys.argv[1:]
    socket.sethostname(name)
    _mount_private()
    _mount_cgroups(controllers)
    _set_up_network(address, services)
    _show_sysctls()
    (Path(directory) / "ready").touch()
    _reap()


if __name__ == "__main__":
    main()
