"""RemediationPolicies and Remediations of the served namespaces: engine.remediation.ports.Store over two watches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from http import HTTPStatus
from typing import Generic, TypeVar

from backendhealth.core.crd import POLICY_PLURAL, REMEDIATION_PLURAL
from backendhealth.core.grants import remedy
from backendhealth.core.observation import clip
from backendhealth.core.spec.backendhealth import API_VERSION
from backendhealth.core.spec.remediation import REMEDIATION_KIND, RemediationSpec, RemediationStatus
from backendhealth.core.spec.remediationpolicy import POLICY_KIND
from backendhealth.core.spec.status import RemediationHold
from backendhealth.engine.remediation.ports import Conflict, Stored, StoredPolicy, Unavailable
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.reflector import Reflector
from backendhealth.kube.remediationmetrics import POLICY_UNUSABLE, RECORDS_UNKNOWN
from backendhealth.kube.remediationobjects import PolicyObject, RemediationObject, policy_object, remediation_object
from backendhealth.kube.remembered import Remembered, Versioned

log = logging.getLogger(__name__)

_TIMEOUT = 5.0
"""Seconds for a request that something waits for."""
_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_T = TypeVar("_T", bound=Versioned)


class Remediations:
    """Watches while `run` runs. `changed` is told the namespaces in which any policy or Remediation has changed."""

    def __init__(self, api: Api, namespaces: Sequence[str], changed: Callable[[str], None]) -> None:
        """`namespaces`: those to watch; none: all."""
        self._api = api
        self._everywhere = not namespaces
        self._changed = changed
        self._scopes = {name: _Scope(api, name, self._tell) for name in namespaces or ("",)}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes.values():
                tasks.create_task(scope.policies.run())
                tasks.create_task(scope.remediations.run())

    def doubt(self) -> None:
        """Another may have written meanwhile (its Lease is ours now): nothing is settled until all is listed anew."""
        for scope in self._scopes.values():
            scope.remediations.doubt()

    def settled(self, namespace: str) -> bool:
        """See Store."""
        scope = self._scope(namespace)
        known = scope is not None and scope.policies.listed_all and scope.remediations.listed_all
        return known and not self._unowned(namespace)

    def policies(self, namespace: str) -> Sequence[StoredPolicy]:
        """See Store."""
        scope = self._scope(namespace)
        found = scope.policies.objects.within(namespace).values() if scope else ()
        return [one.stored for one in found if one.stored is not None]

    def remediations(self, namespace: str) -> Sequence[Stored]:
        """See Store; those that can't be read are Unknown."""
        scope = self._scope(namespace)
        return [one.stored for one in scope.remediations.objects.within(namespace).values()] if scope else []

    def revision(self, namespace: str) -> Hashable:
        """See Store."""
        scope = self._scope(namespace)
        return scope.remediations.objects.revision(namespace) if scope else None

    def holds(self, namespace: str, name: str) -> list[RemediationHold]:
        """What holds all remediation of a BackendHealth back, because an object can't be read."""
        scope = self._scope(namespace)
        if scope is None:
            return []
        naming = [one for one in scope.policies.objects.within(namespace).values() if name in one.named]
        told = []
        why = scope.remediations.refused or self._unowned(namespace)
        for policy in sorted(naming, key=lambda one: one.name):
            if policy.problem:
                message = clip(f"{POLICY_KIND} {policy.name} can't be used: {policy.problem}")
                told.append(RemediationHold(policy=policy.name, rule="", guard=POLICY_UNUSABLE, message=message))
            elif why:
                told.append(RemediationHold(policy=policy.name, rule="", guard=RECORDS_UNKNOWN, message=clip(why)))
        return told

    def under_way(self, serves: Callable[[str], bool]) -> int:
        """How many are at work, or being verified, in the namespaces that `serves` holds for."""
        kinds = [scope.remediations.objects for scope in self._scopes.values()]
        within = [objects.within(name) for objects in kinds for name in objects.namespaces if serves(name)]
        return sum(one.stored.status.phase in {"Running", "Verifying"} for beside in within for one in beside.values())

    async def policy_now(self, namespace: str, name: str) -> StoredPolicy | None:
        """See Store."""
        try:
            answer = await self._request("GET", f"{_path(namespace, POLICY_PLURAL)}/{name}")
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise _unavailable(namespace, error) from None
        return _read(policy_object, answer).stored

    async def create(self, namespace: str, name: str, spec: RemediationSpec) -> Stored:
        """See Store."""
        body = {
            "apiVersion": API_VERSION,
            "kind": REMEDIATION_KIND,
            "metadata": {"namespace": namespace, "name": name},
            "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            answer = await self._request("POST", _path(namespace, REMEDIATION_PLURAL), body)
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                raise Conflict(error.message) from None
            raise _unavailable(namespace, error) from None
        return self._wrote(answer)

    async def write(self, stored: Stored, status: RemediationStatus) -> Stored:
        """See Store."""
        namespace, name = _ids(stored)
        body = {
            "apiVersion": API_VERSION,
            "kind": REMEDIATION_KIND,
            "metadata": {"namespace": namespace, "name": name, "uid": stored.uid, "resourceVersion": stored.version},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            answer = await self._request("PUT", f"{_path(namespace, REMEDIATION_PLURAL)}/{name}/status", body)
        except ApiError as error:
            raise self._refused(stored, error) from None
        return self._wrote(answer)

    async def delete(self, stored: Stored) -> None:
        """See Store."""
        namespace, name = _ids(stored)
        same = {"preconditions": {"uid": stored.uid, "resourceVersion": stored.version}}
        try:
            await self._request("DELETE", f"{_path(namespace, REMEDIATION_PLURAL)}/{name}", same)
        except ApiError as error:
            raise self._refused(stored, error) from None
        scope = self._scope(namespace)
        if scope is not None:
            scope.remediations.objects.deleted(namespace, stored.uid)

    def _wrote(self, answer: Json) -> Stored:
        one = _read(remediation_object, answer)
        scope = self._scope(one.namespace)
        if scope is not None:
            scope.remediations.objects.wrote(one)
        return one.stored

    def _refused(self, stored: Stored, error: ApiError) -> Conflict | Unavailable:
        namespace, name = _ids(stored)
        if error.status == HTTPStatus.CONFLICT:
            return Conflict(error.message)
        # else the 404 says that the kind is not served, at present
        if error.status == HTTPStatus.NOT_FOUND and f'"{name}" not found' in error.message:
            scope = self._scope(namespace)
            if scope is not None:
                scope.remediations.objects.lost(namespace, stored.uid)
            return Conflict(error.message)
        return _unavailable(namespace, error)

    async def _request(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            return await self._api.request(method, path, body=body, timeout=_TIMEOUT)
        except ApiUnavailable as error:
            raise Unavailable(str(error)) from None

    def _unowned(self, namespace: str) -> str:
        """Why it is not known what was done before: somebody's Remediation doesn't tell its policy. Empty: it is."""
        scope = self._scope(namespace)
        found = scope.remediations.objects.within(namespace).values() if scope else ()
        names = sorted(one.name for one in found if not one.owned)
        return f"{REMEDIATION_KIND} {names[0]} can't be read, not even its policy" if names else ""

    def _scope(self, namespace: str) -> _Scope | None:
        return self._scopes.get("" if self._everywhere else namespace)

    def _tell(self, namespaces: set[str]) -> None:
        for namespace in sorted(namespaces):
            self._changed(namespace)


class _Scope:
    """One namespace, or all of them (`""`)."""

    def __init__(self, api: Api, namespace: str, tell: Callable[[set[str]], None]) -> None:
        def all_told(before: set[str]) -> None:
            tell({*before, *self.policies.objects.namespaces, *self.remediations.objects.namespaces})

        self.policies: _Kind[PolicyObject] = _Kind(api, namespace, POLICY_PLURAL, policy_object, tell, all_told)
        self.remediations: _Kind[RemediationObject] = _Kind(
            api, namespace, REMEDIATION_PLURAL, remediation_object, tell, all_told
        )


class _Kind(Generic[_T]):
    """The objects of one kind below one path: a reflector.Follower."""

    def __init__(  # noqa: PLR0913, PLR0917 - what is watched, and who is told
        self,
        api: Api,
        namespace: str,
        plural: str,
        read: Callable[[Json], _T],
        tell: Callable[[set[str]], None],
        tell_all: Callable[[set[str]], None],
    ) -> None:
        """`tell`: in which namespaces anything has changed; `tell_all`: in these, and wherever there is anything."""
        self._api = api
        self._namespace = namespace
        self._plural = plural
        self.read = read
        self._tell = tell
        self._tell_all = tell_all
        self._doubt = asyncio.Event()
        self._told: dict[str, str] = {}
        self.objects: Remembered[_T] = Remembered()
        self.listed_all = False
        self.refused = ""
        """Why it can't be known what there is, as told to people; empty while nobody says no."""

    async def run(self) -> None:
        """Watch until cancelled, beginning with a list again after each doubt."""
        path = _path(self._namespace, self._plural)
        while True:
            self._doubt.clear()
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(Reflector(self._api, path, {}).run(self))
                tasks.create_task(self._ended_by_doubt(watching))

    async def _ended_by_doubt(self, watching: asyncio.Task[None]) -> None:
        await self._doubt.wait()
        watching.cancel()

    def doubt(self) -> None:
        """What is known may be old."""
        self.listed_all = False
        self._doubt.set()

    def listed(self, objects: list[_T]) -> None:
        """All that there are."""
        if self._doubt.is_set():
            return
        before = set(self.objects.namespaces)
        self.objects.listed(objects)
        for one in objects:
            self._warn(one)
        self.listed_all = not self.refused
        self._tell_all(before)

    def in_step(self) -> None:
        """From now on what is known is what is."""
        if self.refused and not self._doubt.is_set():  # not before: who may list, but not watch, would waver
            self.refused = ""
            self.listed_all = True
            self._tell_all(set())

    def changed(self, one: _T, *, gone: bool) -> None:
        """An object is new, has changed, or is gone."""
        if not gone:
            self._warn(one)
        if self.objects.shown(one, gone=gone):
            self._tell({one.namespace})

    def failed(self, error: ApiError | ApiUnavailable) -> None:
        """What was known stays; a refusal is told, since it does not pass by itself, and nothing is begun meanwhile."""
        if isinstance(error, ApiUnavailable) or error.status not in _REFUSALS:
            log.debug("%s can't be watched; going on with what is known: %s", self._plural, error)
            return
        self.listed_all = False
        why = _unseen(self._namespace, self._plural, error)
        if why != self.refused:
            log.warning("no remediation: %s", why)
            self.refused = why
            self._tell_all(set())

    def _warn(self, one: _T) -> None:
        """Told once for each problem."""
        problem = getattr(one, "problem", "")
        if problem and self._told.get(one.uid) != problem:
            log.warning("%s %s/%s: %s", self._plural, one.namespace, one.name, problem)
        if problem:
            self._told[one.uid] = problem
        else:
            self._told.pop(one.uid, None)


def _unseen(namespace: str, plural: str, error: ApiError) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        return f"the cluster does not know {plural} (kubectl apply -k crds)"
    told = f"{plural} can't be seen: {error.message}"
    where = "" if "at the cluster scope" in error.message else namespace
    return f"{told}{remedy(where, error.message, 'list,watch')}"


def _unavailable(namespace: str, error: ApiError) -> Unavailable:
    return Unavailable(clip(f"the API server answered {error}{remedy(namespace, error.message)}"))


def _read(read: Callable[[Json], _T], answer: Json) -> _T:
    try:
        return read(answer)
    except ApiUnavailable as error:
        raise Unavailable(str(error)) from None


def _ids(stored: Stored) -> tuple[str, str]:
    meta = stored.remediation.metadata
    return meta.namespace, meta.name


def _path(namespace: str, plural: str) -> str:
    below = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/{API_VERSION}/{below}{plural}"
