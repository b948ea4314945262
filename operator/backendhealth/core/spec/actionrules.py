"""What must be right within an action."""

from __future__ import annotations

from backendhealth.core.durations import seconds
from backendhealth.core.spec.base import Raw, Rule

_NAME = "app.kubernetes.io/name"
_TAKEN = "auth is Puma, which restarts on this signal: it must not get it"


def _is_auth(raw: Raw) -> bool:
    labels = (raw.get("podSelector") or {}).get("matchLabels") or {}
    return raw.get("container") == "auth" or labels.get(_NAME) == "auth"


_CEL_AUTH = (
    "(has(self.container) && self.container == 'auth' || has(self.podSelector.matchLabels)"
    f" && self.podSelector.matchLabels.exists(k, k == '{_NAME}' && self.podSelector.matchLabels[k] == 'auth'))"
)
_PODS = ("container", "podSelector.matchLabels")

DEBUG_LOGS_RULES = (
    Rule(
        id="never-signal-auth",
        message=_TAKEN,
        cel=f"!{_CEL_AUTH}",
        fields=_PODS,
        holds=lambda raw: not _is_auth(raw),
    ),
    Rule(
        id="revert-after-confirmation",
        message="revertAfter must be longer than confirmWithin",
        cel=(
            "!has(self.revertAfter) || !has(self.confirmWithin)"
            " || duration(self.revertAfter) > duration(self.confirmWithin)"
        ),
        fields=("revertAfter", "confirmWithin"),
        holds=lambda raw: seconds(raw.get("revertAfter") or "15m") > seconds(raw.get("confirmWithin") or "10s"),
        field="revertAfter",
    ),
)
SIGNAL_RULES = (
    Rule(
        id="never-signal-auth",
        message=_TAKEN,
        cel=f"!(self.signal in ['SIGUSR1', 'SIGUSR2']) || !{_CEL_AUTH}",
        fields=("signal", *_PODS),
        holds=lambda raw: raw["signal"] not in ("SIGUSR1", "SIGUSR2") or not _is_auth(raw),
    ),
)
DRIVER_RULES = (
    Rule(
        id="driver-action-needs-credentials",
        message="only administrators may do this to drivers: set apiKeySecretRef or auth",
        cel="has(self.apiKeySecretRef) || has(self.auth)",
        fields=(),
        holds=lambda raw: raw.get("apiKeySecretRef") is not None or raw.get("auth") is not None,
    ),
)
