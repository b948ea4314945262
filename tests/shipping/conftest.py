"""The API server of the tests in tests/kube."""

from tests.kube.conftest import api, control_plane, namespace

__all__ = ["api", "control_plane", "namespace"]
