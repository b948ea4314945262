"""The DiagnosisProfiles of the served namespaces, and what follows from them for those that name one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from backendhealth import profiles as shipped
from backendhealth.core.crd import PROFILE_PLURAL
from backendhealth.core.grants import remedy
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.profileref import ProfileUnusableError, knowledge_of, not_there, not_usable
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import API_VERSION, BackendHealth
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfileSpec
from backendhealth.core.validate import Problem, validate_profile
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.reflector import Reflector

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for which resources that name a profile wait for the first list, when the API server gives no answer."""


ASKED_ONCE = 5.0
"""Seconds for the answer to one who asks once and then goes on without."""


@dataclass(frozen=True, slots=True)
class _Object:
    """A DiagnosisProfile as it stands in the cluster; without a `spec` the `problems` say why it can't be used."""

    namespace: str
    name: str
    spec: DiagnosisProfileSpec | None
    problems: tuple[Problem, ...] = ()


class Profiles:
    """Watches while `run` runs. `changed` is called whenever what is known of any resource's platform may differ."""

    def __init__(self, api: Api, namespaces: Sequence[str], changed: Callable[[], None]) -> None:
        """`namespaces`: those to watch; none: all."""
        self._changed = changed
        self._everywhere = not namespaces
        self._scopes = {name: _Scope(api, name, changed) for name in namespaces or ("",)}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes.values():
                tasks.create_task(scope.run())

    def knowledge_of(self, resource: BackendHealth, before: Knowledge | None) -> Knowledge | None:
        """What is known of its platform now; None while the profiles were not listed yet, and it names one of them."""
        ref = resource.spec.profile_ref
        if ref is not None and ref.name is not None and not self._scope(resource.metadata.namespace).settled:
            return None
        return knowledge_of(resource, shipped.spec_of, self._find, before)

    def _find(self, namespace: str, name: str) -> DiagnosisProfileSpec:
        return self._scope(namespace).find(namespace, name)

    def _scope(self, namespace: str) -> _Scope:
        return self._scopes["" if self._everywhere else namespace]


class _Scope:
    """The profiles of one namespace, or of all (`""`): a reflector.Follower."""

    def __init__(self, api: Api, namespace: str, changed: Callable[[], None]) -> None:
        below = f"namespaces/{namespace}/" if namespace else ""
        self._reflector = Reflector(api, f"/apis/{API_VERSION}/{below}{PROFILE_PLURAL}", {})
        self._changed = changed
        self._known: Mapping[str, Mapping[str, _Object]] = {}
        self._refused: ApiError | None = None
        self.settled = False
        """Whether it is known what is there, or why that can't be known, or was waited for long enough."""

    async def run(self) -> None:
        """Watch until cancelled."""
        timer = asyncio.get_running_loop().call_later(PATIENCE, self._settle)
        try:
            await self._reflector.run(self)
        finally:
            timer.cancel()

    def find(self, namespace: str, name: str) -> DiagnosisProfileSpec:
        """The profile as it stands. Raises ProfileUnusableError."""
        if self._refused is not None:
            raise _unseen(namespace, name, self._refused)
        beside = self._known.get(namespace, {})
        found = beside.get(name)
        if found is None:
            raise not_there(namespace, name, beside, shipped.names())
        if found.spec is None:
            raise not_usable(name, found.problems)
        return found.spec

    def read(self, raw: Json) -> _Object:
        """What is kept of an object."""
        metadata = raw["metadata"]
        # the items of a list need not say what they are
        profile, problems = validate_profile({"apiVersion": API_VERSION, "kind": PROFILE_KIND, **raw})
        return _Object(metadata["namespace"], metadata["name"], profile.spec if profile else None, tuple(problems))

    def listed(self, objects: list[_Object]) -> None:
        """All profiles that there are."""
        known: dict[str, dict[str, _Object]] = {}
        for one in objects:
            known.setdefault(one.namespace, {})[one.name] = one
        differs = known != self._known or not self.settled
        self._known = known
        if self._refused is None and differs:
            self._settle(again=True)

    def in_step(self) -> None:
        """From now on what is known is what is."""
        if self._refused is not None:  # not before: who may list, but not watch, would waver
            self._refused = None
            self._settle(again=True)

    def changed(self, one: _Object, *, gone: bool) -> None:
        """A profile is new, has changed, or is gone."""
        beside = {name: other for name, other in self._known.get(one.namespace, {}).items() if name != one.name}
        self._known = {**self._known, one.namespace: beside if gone else {**beside, one.name: one}}
        self._changed()

    def failed(self, error: ApiError | ApiUnavailable) -> None:
        """What was known stays in force; a refusal is told, since it does not pass by itself."""
        if isinstance(error, ApiUnavailable) or error.status not in _REFUSALS:
            log.debug("%s can't be watched; going on with what is known: %s", PROFILE_PLURAL, error)
            return
        if self._refused is None or str(self._refused) != str(error):
            log.warning("%s can't be watched: %s", PROFILE_PLURAL, error)
            self._refused = error
            self._settle(again=True)

    def _settle(self, *, again: bool = False) -> None:
        if again or not self.settled:
            self.settled = True
            self._changed()


async def profile_there(api: Api, namespace: str, name: str) -> DiagnosisProfileSpec:
    """The profile as it stands in the cluster, asked for once. Raises ProfileUnusableError."""
    path = f"/apis/{API_VERSION}/namespaces/{quote(namespace)}/{PROFILE_PLURAL}/{quote(name)}"
    try:
        raw = await api.request("GET", path, timeout=ASKED_ONCE)
    except ApiUnavailable as error:
        told = f"{PROFILE_KIND} {name} can't be read: {error}"
        raise ProfileUnusableError(Reason.PROFILE_NOT_FOUND, told) from None
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise not_there(namespace, name, (), shipped.names()) from None
        told = f"{PROFILE_KIND} {name} can't be read: {error.message}"
        raise ProfileUnusableError(Reason.PROFILE_NOT_FOUND, told, remedy(namespace, error.message)) from None
    profile, problems = validate_profile({key: value for key, value in raw.items() if key != "status"})
    if profile is None:
        raise not_usable(name, problems)
    return profile.spec


_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def _unseen(namespace: str, name: str, error: ApiError) -> ProfileUnusableError:
    if error.status == HTTPStatus.NOT_FOUND:
        told = f"{PROFILE_KIND} {name} is not there: the cluster does not know this kind (kubectl apply -k crds)"
        return ProfileUnusableError(Reason.PROFILE_NOT_FOUND, told)
    told = f"{PROFILE_KIND} {name} can't be seen: {error.message}"
    where = "" if "at the cluster scope" in error.message else namespace
    return ProfileUnusableError(Reason.PROFILE_NOT_FOUND, told, remedy(where, error.message, "list,watch"))
