"""Network namespaces of a test's own, which have no way out."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest


def missing(*tools: str) -> str:
    """What is missing for namespaces and `tools`, in one line; empty when nothing is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    return next((f"{tool} is not installed" for tool in ("ip", *tools) if shutil.which(tool) is None), "")


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    """A new namespace, deleted afterwards; its name is made unique. Skips the test where none can be made."""
    unique = f"bh-{name}-{os.getpid()}"
    try:
        ip("netns", "add", unique)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"ip netns add: {error.stderr.strip()}")
    try:
        yield unique
    finally:
        ip("netns", "del", unique)
