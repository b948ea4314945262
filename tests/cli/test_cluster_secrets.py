"""`--kubeconfig`: Secrets from a cluster; the API server here is a stand-in that knows the one path."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from tests.cli.support import redis_probe, resource, run
from tests.servers.misbehaving import silent
from tests.servers.process import free_port
from tests.servers.redis import RedisServer

PLANTED = "pl4nted-s3cret"


@contextmanager
def api_server(status: int) -> Iterator[int]:
    """Answers GET of the Secret default/redis with `status`, anything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path == "/api/v1/namespaces/default/secrets/redis"
            value = base64.b64encode(PLANTED.encode()).decode()
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "data": {"password": value}}
            failed = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": PLANTED}
            body = json.dumps(secret if there and status == 200 else failed).encode()
            self.send_response(status if there else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(password=PLANTED) as server:
        yield server


def kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "test", "user": {}}],
            }
        )
    )
    return path


def check(folder: Path, redis: RedisServer, config: Path, name: str = "redis", timeout: str = "5s"):
    path = folder / "r.yaml"
    path.write_text(
        resource(redis_probe(redis.port, auth={"secretRef": {"name": name}}), timeout=timeout, interval="10s")
    )
    return run("check", "-f", path, "--kubeconfig", config)


def test_a_secret_of_the_cluster_is_used(tmp_path: Path, redis: RedisServer):
    with api_server(200) as port:
        done = check(tmp_path, redis, kubeconfig(tmp_path, port))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "SecretForbidden"), (401, "SecretForbidden"), (500, "SecretUnavailable")]
)
def test_a_refusal_is_unknown_and_names_the_secret(tmp_path: Path, redis: RedisServer, status: int, reason: str):
    with api_server(status) as port:
        done = check(tmp_path, redis, kubeconfig(tmp_path, port))
    assert done.returncode == 3
    assert reason in done.stdout
    assert "Secret redis" in done.stdout
    assert PLANTED not in done.stdout + done.stderr


def test_a_secret_that_the_cluster_does_not_have(tmp_path: Path, redis: RedisServer):
    with api_server(200) as port:
        done = check(tmp_path, redis, kubeconfig(tmp_path, port), name="nosuch")
    assert done.returncode == 3
    assert "SecretNotFound" in done.stdout


def test_an_api_server_that_is_gone_says_nothing_about_the_backend(tmp_path: Path, redis: RedisServer):
    done = check(tmp_path, redis, kubeconfig(tmp_path, free_port()))
    assert done.returncode == 3
    assert "SecretUnavailable" in done.stdout


@pytest.mark.parametrize("timeout", ["5s", "500ms"])
def test_an_api_server_that_hangs_says_nothing_about_the_backend(tmp_path: Path, redis: RedisServer, timeout: str):
    with silent() as server:
        done = check(tmp_path, redis, kubeconfig(tmp_path, server.port), timeout=timeout)
    assert done.returncode == 3, done.stdout
    assert "SecretUnavailable" in done.stdout


def test_a_file_that_is_no_kubeconfig(tmp_path: Path, redis: RedisServer):
    config = tmp_path / "kubeconfig"
    config.write_text("{}")
    done = check(tmp_path, redis, config)
    assert done.returncode == 3
    assert "not a usable kubeconfig" in done.stdout
