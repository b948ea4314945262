"""What every verb works with: the API server as the user, a namespace, and how a refusal is told."""

from __future__ import annotations

import argparse
import re
import shlex
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

from backendhealth.core.spec.backendhealth import API_VERSION
from backendhealth.core.statusof import timestamp
from backendhealth.kube.api import Api, ApiError, connect

Json = dict[str, Any]
CRDS = "kubectl apply --server-side -k crds"
_REFUSED = re.compile(r'User "([^"]+)" cannot ([a-z]+) resource "([a-z/]+)" in API group "([a-z0-9.]*)"')
_READ = frozenset({"get", "list", "watch"})
_ROLES = {
    "remediations": "backendhealth-approver",
    "backendhealths": "backendhealth-on-call",
    "pods": "view",
    "pods/log": "view",
    "deployments": "view",
    "statefulsets": "view",
}
"""ClusterRoles that grant what a verb of this command writes, or reads of others' kinds."""


class BadInput(Exception):  # noqa: N818 - what is said of the input
    """What a person gave can't be used; the message says why and what to do."""


class No(Exception):  # noqa: N818 - an answer
    """The answer is no; the message says why."""


@dataclass(slots=True)
class Session:
    """The API server as the user, and the namespace that is meant."""

    api: Api
    namespace: str

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()

    def path(self, plural: str, name: str = "", namespace: str | None = None) -> str:
        """Where objects of our group are, in the session's namespace unless another one is given; "": in all."""
        namespace = self.namespace if namespace is None else namespace
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"/apis/{API_VERSION}{inside}/{plural}" + (f"/{quote(name, safe='')}" if name else "")

    async def get(self, plural: str, name: str) -> Json:
        """One object of our group. Raises BadInput when there is none, ApiError, ApiUnavailable."""
        try:
            return await self.api.request("GET", self.path(plural, name))
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND or not _names_object(error):
                raise
        others = [one["metadata"]["name"] for one in await self.list(plural)]
        there = f"there are {', '.join(sorted(others)[:20])}" if others else "there is none in it; see -n"
        raise BadInput(f"no {_singular(plural)} {name} in the namespace {self.namespace}: {there}")

    async def list(self, plural: str, namespace: str | None = None) -> list[Json]:
        """All objects of our group's kind in the namespace. Raises ApiError, ApiUnavailable."""
        items, _ = await self.api.list(self.path(plural, namespace=namespace))
        return items

    async def patch(self, plural: str, name: str, body: Json) -> Json:
        """A merge patch. Raises ApiError, ApiUnavailable."""
        content = "application/merge-patch+json"
        return await self.api.request("PATCH", self.path(plural, name), body=body, content_type=content)

    async def user(self) -> str:
        """The name that the API server knows the user by. Raises ApiError, ApiUnavailable."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self.api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
        name: str = answer["status"]["userInfo"]["username"]
        return name

    def refusal(self, error: ApiError) -> str:
        """What the API server refused, and who can help, in one or two sentences."""
        if found := _REFUSED.search(error.message):
            return _forbidden(self.namespace, *found.groups())
        if error.status == HTTPStatus.UNAUTHORIZED:
            return "the API server does not know you (401 Unauthorized): log in again, or see --context"
        if error.status == HTTPStatus.NOT_FOUND and not _names_object(error):
            return f"the API server does not serve a kind that is needed; whoever runs the operator: {CRDS}"
        return error.message


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which cluster and namespace."""
    group = parser.add_argument_group("cluster")
    group.add_argument("-n", "--namespace", metavar="NS", help="default: the one of the kubeconfig's context")
    group.add_argument("--context", metavar="NAME", help="context of the kubeconfig; default: its current one")
    group.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, or ~/.kube/config")


async def open_session(args: argparse.Namespace) -> Session:
    """The API server that the options name. Raises NoCluster."""
    api = await connect(args.kubeconfig, args.context)
    return Session(api, args.namespace or _namespace_of(args.kubeconfig, args.context))


def _namespace_of(kubeconfig: str | None, context: str | None) -> str:
    """The namespace that kubectl would take."""
    from kubernetes.aio import config  # noqa: PLC0415 - after `connect` has found the file to be one

    try:
        contexts, current = config.list_kube_config_contexts(kubeconfig)  # type: ignore[no-untyped-call]
    except config.ConfigException:  # in a pod there is none
        return "default"
    chosen = next((one for one in contexts if one["name"] == context), current) if context else current
    namespace: str = (chosen.get("context") or {}).get("namespace") or "default"
    return namespace


def now_text() -> str:
    """The present moment, as Kubernetes writes times, in UTC."""
    return timestamp(time.time())


def _names_object(error: ApiError) -> bool:
    """Whether it is said of an object that it isn't there, and not of its kind."""
    return '" not found' in error.message


def _singular(plural: str) -> str:
    return {
        "backendhealths": "BackendHealth",
        "remediations": "Remediation",
        "remediationpolicies": "RemediationPolicy",
    }.get(plural, plural)


def _forbidden(namespace: str, user: str, verb: str, resource: str, group: str) -> str:
    what = f"{resource}.{group}" if group else resource
    ours = group.endswith("backendhealth.dev")
    role = "backendhealth-view" if ours and verb in _READ else _ROLES.get(resource, "")
    if resource == "remediations" and verb == "create":
        role = "backendhealth-on-call"
    told = f"you ({user}) may not {verb} {what} in the namespace {namespace}"
    if not role:
        return f"{told}; ask an admin of it for a Role with that verb"
    line = f"kubectl -n {namespace} create rolebinding {role} --clusterrole={role} --user={shlex.quote(user)}"
    return f"{told}; the ClusterRole {role} grants it, an admin of the namespace can give it to you: {line}"
