"""etcd3's stubs beside today's protobuf."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import grpc

from backendhealth.probes import etcd_stubs


def test_messages_have_the_fields_of_later_versions() -> None:
    rpc = etcd_stubs.messages()
    assert rpc.StatusResponse.FromString(b"\x50\x01\x60\x07").isLearner is True
    assert rpc.StatusResponse.FromString(b"\x50\x01\x60\x07").dbSizeQuota == 7
    assert rpc.Member(isLearner=True).SerializeToString() == b"\x28\x01"
    assert (rpc.NOSPACE, rpc.CORRUPT) == (1, 2)


def test_stubs_work_on_a_blocking_channel() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        stubs = etcd_stubs.stubs(channel)
        assert callable(stubs.kv.Range)
        assert callable(stubs.auth.Authenticate)


def test_neither_etcd3s_client_nor_the_environment_is_touched() -> None:
    """In a fresh interpreter: the client stays unloaded, and importing etcd3 afterwards works, too."""
    code = """
        import os, sys
        before = dict(os.environ)
        from backendhealth.probes import etcd_stubs
        rpc = etcd_stubs.messages()
        assert "etcd3" not in sys.modules and "etcd3.client" not in sys.modules, "the client was loaded"
        assert dict(os.environ) == before
        import etcd3
        assert etcd3.etcdrpc is rpc
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
