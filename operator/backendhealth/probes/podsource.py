"""Where pods come from: a port, since only `kube/` knows the API server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from backendhealth.core.pods import Pod

Signal = Callable[[], None]
"""Says that something has changed."""


class PodView(Protocol):
    """The pods that one selector finds, kept up to date."""

    async def pods(self) -> Sequence[Pod]:
        """The pods as they are now; waits until they were listed once.

        Raises ProbeError (ClusterUnavailable, PodsForbidden) when they are not known.
        """
        ...

    def close(self) -> None:
        """Look no longer."""
        ...


class PodSource(Protocol):
    """Watches pods."""

    def watch(self, namespace: str, selector: str, changed: Signal) -> PodView:
        """The pods of `namespace` that `selector` (a label selector in text) finds.

        `changed` is called soon after a change of them, or of whether they can be seen.
        """
        ...
