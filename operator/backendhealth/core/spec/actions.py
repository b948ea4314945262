"""What a policy may let happen: one model for each action, and the union of them."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from backendhealth.core.spec.actionrules import DEBUG_LOGS_RULES, DRIVER_RULES, SIGNAL_RULES
from backendhealth.core.spec.base import Model, Name, ObjectName, Regex, Rule, duration_between, exactly_one, meaning
from backendhealth.core.spec.placeos import API_RULES, DriverKey, PlaceosApi
from backendhealth.core.spec.pods import LabelSelector

ProcessName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=15,
        pattern=meaning("the name of a process as /proc/PID/comm has it, 15 characters at most", r"^[!-.0-~]+$"),
    ),
]
Wait = Annotated[str, duration_between("1s", "1h")]


class PodAction(Model):
    """Which processes of which pods are meant."""

    pod_selector: LabelSelector = Field(description="Pods of the policy's namespace.")
    container: Name | None = Field(default=None, description="Container of the pods; default: the first one.")
    process: ProcessName | None = Field(
        default=None,
        description="Name of the process; every one of that name is meant. Default: the container's PID 1.",
    )


class DebugLogs(PodAction):
    """Verbose logs on, by SIGUSR1, and off again after a while; a container that restarts meanwhile is left alone."""

    revert_after: Annotated[str, duration_between("10s", "24h")] = Field(
        default="15m", description="Time after which verbose logs are turned off again."
    )
    confirm: Regex = Field(
        default="log level changed to Trace", description="RE2 expression of the log line that says that it worked."
    )
    confirm_off: Regex = Field(
        default="log level changed to (Info|Debug)", description="The same for turning verbose logs off again."
    )
    confirm_within: Wait = Field(default="10s", description="How soon the log line comes.")
    rules: ClassVar[tuple[Rule, ...]] = DEBUG_LOGS_RULES


class SendSignal(PodAction):
    """A signal to processes in pods."""

    signal: Literal["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM", "SIGQUIT"] = Field(
        description="The signal; the process must have a handler for it."
    )
    confirm: Regex | None = Field(
        default=None, description="RE2 expression of the log line that says that it worked; default: not looked for."
    )
    confirm_within: Wait = Field(default="10s", description="How soon the log line comes.")
    rules: ClassVar[tuple[Rule, ...]] = SIGNAL_RULES


class RestartPods(Model):
    """Pods deleted or evicted one at a time, each only after the replacement of the one before is ready."""

    pod_selector: LabelSelector = Field(description="Pods of the policy's namespace.")
    pods: Literal["Troubled", "Subjects", "All"] = Field(
        default="Troubled",
        description="Troubled: those that crash or are stuck. Subjects: those that the component's probe names"
        " (`pod/NAME`). All: every one.",
    )
    method: Literal["Evict", "Delete"] = Field(
        default="Evict", description="Evict respects PodDisruptionBudgets, Delete does not."
    )
    ready_within: Wait = Field(default="5m", description="How soon the replacement is ready.")


class Workload(Model):
    """What a rollout is made of."""

    kind: Literal["Deployment", "StatefulSet", "DaemonSet"] = Field(description="Kind of the workload.")
    name: ObjectName = Field(description="Its name, in the policy's namespace.")


class RolloutRestart(Model):
    """A rollout of the workload as it is, as `kubectl rollout restart` makes one."""

    workload: Workload = Field(description="What is restarted.")
    ready_within: Wait = Field(default="10m", description="How soon the rollout is complete.")


class DriverAction(PlaceosApi):
    """How the cluster API is reached, and which drivers are meant."""

    drivers: Annotated[list[DriverKey], Field(max_length=64)] = Field(
        default=[],
        description="Keys of drivers, or what their keys begin with: of the drivers that the component's probe names,"
        " only these. Default: all that it names.",
    )
    rules: ClassVar[tuple[Rule, ...]] = (*API_RULES, *DRIVER_RULES)


class RestartDriver(DriverAction):
    """One driver's process ended on one core, which launches it anew (PlaceOS)."""

    running_within: Wait = Field(default="1m", description="How soon it was launched and runs.")


class ReloadDriver(DriverAction):
    """One driver loaded anew on all cores (PlaceOS since 2024-12)."""

    running_within: Wait = Field(default="2m", description="How soon it runs.")


ACTIONS: tuple[str, ...] = (
    *("debugLogs", "signal", "restartPods", "rolloutRestart"),
    *("restartDriver", "reloadDriver"),
)
AnyAction = DebugLogs | SendSignal | RestartPods | RolloutRestart | RestartDriver | ReloadDriver


class Action(Model):
    """One action: exactly one of its members is set."""

    debug_logs: DebugLogs | None = None
    signal: SendSignal | None = None
    restart_pods: RestartPods | None = None
    rollout_restart: RolloutRestart | None = None
    restart_driver: RestartDriver | None = None
    reload_driver: ReloadDriver | None = None
    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("one-action", ACTIONS),)

    @cached_property
    def kind(self) -> str:
        """Name of the member that is set, as YAML has it."""
        members = (self.debug_logs, self.signal, self.restart_pods, self.rollout_restart, self.restart_driver)
        return next(
            (name for name, member in zip(ACTIONS, members, strict=False) if member is not None), "reloadDriver"
        )

    @cached_property
    def does(self) -> AnyAction:
        """The member that is set."""
        members = (self.debug_logs, self.signal, self.restart_pods, self.rollout_restart)
        found = next((one for one in (*members, self.restart_driver, self.reload_driver) if one is not None), None)
        if found is None:  # the rule above refuses it
            raise ValueError("an action without a member")
        return found
