"""What whoever sends a signal within a pod says that it did."""

from __future__ import annotations

from dataclasses import dataclass

from backendhealth.actions.ports import Effect, Outcome
from backendhealth.core.observation import clip

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Said:
    """PIDs that the signal was sent to, PIDs that had ended by then; or why it was sent to none."""

    sent: tuple[int, ...] = ()
    missed: tuple[int, ...] = ()
    refused: str = ""

    def outcome(self, what: str, now: float) -> Outcome:
        """The outcome of sending `what`, e.g. `SIGUSR1 to process 1 …`, at `now`."""
        if not self.sent:
            return Outcome(Effect.NOT_DONE, clip(f"did not send {what}: {self.refused}"))
        named = ", ".join(map(str, self.sent[:_MOST_NAMED])) + (", …" if len(self.sent) > _MOST_NAMED else "")
        told = f"sent {what}: PID {named}" + (f"; {len(self.missed)} more had ended" if self.missed else "")
        return Outcome(Effect.DONE, clip(told), {"sentAt": f"{now:.3f}", "processes": str(len(self.sent))})


def unknown(what: str, why: str) -> Outcome:
    """Nobody can tell whether `what` was sent."""
    return Outcome(Effect.UNKNOWN, clip(f"unknown whether {what} was sent: {why}", 400))
