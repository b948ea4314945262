"""Which module probes which member of the spec; a backend's client is imported only when something probes it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from backendhealth.core.spec.backendhealth import MEMBERS, Probe
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import Exchange
from backendhealth.probes.podsource import PodSource, Signal
from backendhealth.probes.secrets import Secrets


def _unheard() -> None:
    """For those who make attempts by themselves."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every exchange is made with."""

    dialer: Dialer
    secrets: Secrets
    namespace: str = "default"
    """The resource's own."""
    pods: PodSource | None = None
    """None where no cluster is known."""
    signal: Signal = _unheard
    """Asks for an attempt at once."""


def build(probe: Probe, context: Context) -> Exchange:
    """The exchange for the probe's target. Connects to nothing yet.

    A module of `probes/` named as the member has `build(target, context) -> Exchange`.
    """
    if probe.kind not in MEMBERS:
        raise ValueError(f"no such probe: {probe.kind}")
    module = importlib.import_module(f"backendhealth.probes.{probe.kind}")
    exchange: Exchange = module.build(probe.target, context)
    return exchange
