"""A Redis with a password: nothing is granted at first, and each line that the status prints grants one thing more."""

from __future__ import annotations

import re

from tests.cluster.access import Kubectl
from tests.e2e import backends, platform
from tests.e2e.declared import apply, status, wait_for
from tests.servers.process import wait_until

PASSWORD = "planted-secret-of-a-team"


def remedy(cluster: Kubectl, namespace: str) -> str:
    """The line between backquotes at the end of the message; empty when there is none."""
    message = status(cluster, namespace, "demo")["summary"]["message"]
    found = re.search(r"`(kubectl [^`]*)`$", message)
    return found[1] if found else ""


def test_the_printed_lines_grant_what_is_missing(installed: Kubectl, namespace: str):
    def kubectl(*arguments: str) -> str:
        return installed.kubectl("-n", namespace, *arguments)

    def set_password(value: str) -> None:
        patch = f'{{"stringData": {{"password": "{value}"}}}}'
        kubectl("patch", "secret", "redis", f"--patch={patch}")

    backends.start(installed, namespace, backends.redis("redis", "--requirepass", PASSWORD))
    kubectl("create", "secret", "generic", "redis", f"--from-literal=password={PASSWORD}")
    kubectl("create", "serviceaccount", "backendhealth")
    auth = {"secretRef": {"name": "redis"}}
    apply(installed, namespace, "demo", {"name": "redis", "redis": {"url": "redis://redis:6379", "auth": auth}})
    lines: list[str] = []
    for expected in ("SecretForbidden", "SecretForbidden", "SecretForbidden", "SecretNotAllowed"):
        wait_for(installed, namespace, "demo", "Unknown", expected)
        wait_until(lambda: remedy(installed, namespace) not in {"", *lines}, 20, f"another line than {lines[-1:]}")
        lines.append(remedy(installed, namespace))
        platform.run(installed, lines[-1])
    wait_for(installed, namespace, "demo", "Healthy")
    verbs = [re.search(r"patch backendhealth|impersonate|--verb=get|annotate secret", line) for line in lines]
    told = [verb[0] for verb in verbs if verb]
    assert told == ["patch backendhealth", "impersonate", "--verb=get", "annotate secret"], lines

    set_password("wrong")
    kubectl("rollout", "restart", "deployment/redis")  # a connection that is kept needs no password
    wait_for(installed, namespace, "demo", "Unknown", "AuthenticationFailed", timeout=40)
    set_password(PASSWORD)
    wait_for(installed, namespace, "demo", "Healthy")
    kubectl("annotate", "secret", "redis", "backendhealth.dev/allow-")
    wait_for(installed, namespace, "demo", "Unknown", "SecretNotAllowed")
    everything = kubectl("get", "bh,events", "-o", "yaml")
    everything += installed.kubectl("-n", platform.SYSTEM, "logs", platform.OPERATOR)
    assert PASSWORD not in everything
