"""Pods of processes that count the SIGUSR1s that they get, in images with and without a shell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster import images

Json = dict[str, Any]
KILL, SCRATCH, FLOOD, HANG = (f"localhost/{name}:1" for name in ("only-kill", "scratch", "flood", "hang"))
USER = 10001
# Each process says how often it was signalled, and as PlaceOS does what its log level is now.
_SERVICE = r"""
serve() {
  me=$1 n=0
  printf %s "$2" >/proc/self/comm
  level() { [ $((n % 2)) = 1 ] && echo Trace || echo Info; }
  trap 'n=$((n + 1)); echo "$me signal $n: default log level changed to $(level)"' USR1
  trap 'exit 0' TERM
  exec 3</dev/ptmx
  echo "$me ready"
  while :; do read -t 1 line <&3; done
}
for worker in WORKERS; do serve "$worker" NAME & done
serve main NAME
"""
_DEAF = "trap 'exit 0' TERM; exec 3</dev/ptmx; echo main ready; while :; do read -t 1 line <&3; done"


def recipes(scripts: Path) -> list[images.Image]:
    """The images; `scripts` is a folder for what stands in for a shell in the hostile ones."""
    program = {"service/busybox-core": images.busybox().files["bin/busybox"]}
    flood, hang = scripts / "flood", scripts / "hang"
    begins = "#!/service/busybox-core sh\n"
    # 100 MB and an end: nobody ends it when nobody listens any more
    line = "nothing at all, " * 256
    flood.write_text(f"{begins}i=0; while [ $i -lt 25600 ]; do echo '{line}'; i=$((i+1)); done\n")
    hang.write_text(f"{begins}exec 3</dev/ptmx\nwhile :; do read -t 9 line <&3; done\n")
    return [
        images.Image(KILL, [], program, {"bin/kill": "../service/busybox-core"}),
        images.Image(SCRATCH, [], program),
        images.Image(FLOOD, [], {**program, "bin/sh": flood}),
        images.Image(HANG, [], {**program, "bin/sh": hang}),
    ]


def service(image: str, *, workers: int = 0, name: str = "core", **more: Any) -> Json:
    """A container with a process 1 and that many more; `name` is what its processes are called."""
    script = _SERVICE.replace("WORKERS", " ".join(f"worker-{n}" for n in range(workers))).replace("NAME", name)
    return _container(image, script, **more)


def deaf(image: str) -> Json:
    """A container whose process has no handler for SIGUSR1."""
    return _container(image, _DEAF)


def _container(image: str, script: str, **more: Any) -> Json:
    shell = ["sh"] if image == images.BUSYBOX else ["/service/busybox-core", "sh"]
    return {"name": "main", "image": image, "imagePullPolicy": "Never", "command": [*shell, "-c", script], **more}


def pod(name: str, *containers: Json, labels: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """A pod of user USER, with as few rights as PlaceOS has."""
    security = {"runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": True}
    sealed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "containers": [{"securityContext": sealed, **container} for container in containers],
            "securityContext": security,
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }


PODS: Mapping[str, Json] = {
    one["metadata"]["name"]: one
    for one in (
        pod("shell", service(images.BUSYBOX), {**service(images.BUSYBOX), "name": "beside"}),
        pod("workers", service(images.BUSYBOX, workers=3)),
        pod("only-kill", service(KILL)),
        pod("scratch", service(SCRATCH), {**service(SCRATCH), "name": "beside"}),
        pod("scratch-workers", service(SCRATCH, workers=3)),
        pod("two-at-once", service(SCRATCH)),
        pod("puma", service(images.BUSYBOX, name="puma")),
        pod("scratch-puma", service(SCRATCH, name="puma")),
        pod("deaf", deaf(images.BUSYBOX)),
        pod("scratch-deaf", deaf(SCRATCH)),
        pod("shared", service(images.BUSYBOX), shareProcessNamespace=True),
        pod("flood", service(FLOOD)),
        pod("hang", service(HANG)),
        pod("toggled", service(images.BUSYBOX)),
        pod("granted", service(images.BUSYBOX)),
        pod("scratch-granted", service(SCRATCH)),
        pod("restarted", service(images.BUSYBOX)),
        pod("scratch-restarted", service(SCRATCH)),
        pod("remade", service(images.BUSYBOX)),
        pod("scratch-remade", service(SCRATCH)),
    )
}
