"""The cluster as a policy's ServiceAccount sees it, by impersonation: what actions act with.

open_acting = Identities(api, http=PlaceosHttp(dialer, secrets).of, helper_image=settings.helper_image, …)
acting = open_acting("placeos", "placeos", "placeos-remediator", notes, fence)
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from backendhealth.actions.ports import Acting, Executed, Json, OpenHttp, Refused, Silent
from backendhealth.core.grants import granting
from backendhealth.core.observation import clip
from backendhealth.kube import podexec
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, answer

MAX_LOG = 256 << 10
"""Bytes of one log."""
_MAX_ARGUMENT = 60  # characters of a command's argument that are noted; a longer one is a script
_EXEC_VERBS = "create,get"  # a WebSocket is opened by GET, and since Kubernetes 1.35 needs both
# Sentences of answers in the 500s that are given before anything was done; after others nobody knows.
_BEFORE_ANY_EFFECT = ("failed calling webhook", "more than one PodDisruptionBudget")

Fence = Callable[[str], Awaitable[None]]
HttpAs = Callable[[str, str, str, list[str]], OpenHttp]
"""(namespace, policy, ServiceAccount, where calls are noted) → opens HTTP services with that account's Secrets."""


class Identities:
    """Makes what an action is done with: engine.remediation.ports.OpenActing."""

    def __init__(
        self,
        api: Api,
        *,
        http: HttpAs,
        helper_image: str = "",
        field_manager: str = "backendhealth",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._http = http
        self._helper_image = helper_image
        self._field_manager = field_manager
        self._clock = clock

    def __call__(self, namespace: str, policy: str, account: str, notes: list[str], fence: Fence) -> Acting:
        """For one Remediation; `notes` gets a line for each request."""
        return Acting(
            namespace=namespace,
            cluster=AccountCluster(self._api, namespace, account, notes),
            http=self._http(namespace, policy, account, notes),
            clock=self._clock,
            fence=fence,
            helper_image=self._helper_image,
            field_manager=self._field_manager,
        )


class AccountCluster:
    """The API server as one ServiceAccount of one namespace: actions.ports.Cluster."""

    def __init__(self, api: Api, namespace: str, account: str, notes: list[str]) -> None:
        self._api = api
        self._namespace = namespace
        self._account = account
        self._notes = notes
        self._headers = {"Impersonate-User": self.acting_as}

    @property
    def acting_as(self) -> str:
        """The user that requests are made as."""
        return f"system:serviceaccount:{self._namespace}:{self._account}"

    async def request(  # noqa: PLR0913 - an HTTP request has that many parts
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> Json:
        """See actions.ports.Cluster."""
        about = f"{method} {_with_query(path, query)}"
        try:
            response, text = await self._api.exchange(method, path, query, body, content_type, self._headers, timeout)
            told = answer(response, text)
        except (ApiError, ApiUnavailable) as error:
            raise self._failed(about, error) from None
        self._note(about, f"{response.status} {response.reason}")
        return told

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, timeout: float
    ) -> Executed:
        """See actions.ports.Cluster."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        about = f"GET {path} in {container}: {_shown(command)}"
        try:
            done = await podexec.execute(self._api, path, container, command, self._headers, timeout)
        except (ApiError, ApiUnavailable) as error:
            raise self._failed(about, error, _EXEC_VERBS) from None
        self._note(about, "no exit code" if done.exit_code is None else f"exit code {done.exit_code}")
        return done

    async def logs(self, namespace: str, pod: str, container: str, *, since: float, timeout: float) -> str:
        """See actions.ports.Cluster."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        query = {"container": container, "sinceSeconds": str(max(1, round(since))), "limitBytes": str(MAX_LOG)}
        about = f"GET {path}?container={container}"
        try:
            text = await self._api.text(path, query, headers=self._headers, timeout=timeout)
        except (ApiError, ApiUnavailable) as error:
            raise self._failed(about, error) from None
        self._note(about, "200 OK")
        return text.decode(errors="replace")

    def _failed(self, about: str, error: ApiError | ApiUnavailable, verbs: str = "") -> Refused | Silent:
        if isinstance(error, ApiUnavailable):
            self._note(about, "no answer")
            return Silent(clip(str(error)))
        self._note(about, f"{error.status} {error.reason}")
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not _is_without_effect(error):
            return Silent(clip(f"the API server answered {error}"))
        return Refused(error.status, error.reason, clip(error.message), self._remedy(error, verbs))

    def _remedy(self, error: ApiError, verbs: str) -> str:
        if error.status != HTTPStatus.FORBIDDEN:
            return ""
        if "cannot impersonate" in error.message:
            return granting(self._namespace, error.message, name=self._account)
        return granting(self._namespace, error.message, verbs)

    def _note(self, about: str, outcome: str) -> None:
        """What is asked again and again with the same answer is noted once."""
        line = clip(f"{about} → {outcome}")
        if line not in self._notes:
            self._notes.append(line)


def _is_without_effect(error: ApiError) -> bool:
    told = any(sentence in error.message for sentence in _BEFORE_ANY_EFFECT)
    return told or error.reason in {podexec.NOT_FOUND, podexec.NOT_STARTED}


def _with_query(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{'&'.join(f'{key}={value}' for key, value in query.items())}" if query else path


def _shown(command: Sequence[str]) -> str:
    """The command without the scripts in it."""
    return " ".join("…" if len(part) > _MAX_ARGUMENT else shlex.quote(part) for part in command)
