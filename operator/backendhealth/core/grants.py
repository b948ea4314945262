"""The command lines that grant what the API server has refused."""

from __future__ import annotations

import hashlib
import re
import shlex

_REFUSED = re.compile(r'User "([^"]+)" cannot ([a-z:-]+) resource "([a-z/]+)" in API group "([a-z0-9.]*)"')
_ACCOUNT = "system:serviceaccount:"
_MAX_ROLE_NAME = 63


def remedy(namespace: str, message: str, verbs: str = "", name: str = "") -> str:
    """`; to grant it: ` and the line that does, for what the API server refused by `message`; empty when it isn't told.

    `verbs`: all that are needed, where the refused one will not be enough. `namespace`: empty for all of them.
    `name`: the only object for which it is granted.
    """
    line = granting(namespace, message, verbs, name)
    return f"; to grant it: {line}" if line else ""


def granting(namespace: str, message: str, verbs: str = "", name: str = "") -> str:
    """The line alone; see `remedy`."""
    found = _REFUSED.search(message)
    if not found:
        return ""
    user, verb, resource, group = found.groups()
    if verb.startswith("impersonate"):  # since Kubernetes 1.36 it may be told which request it was for
        verb, resource, group = "impersonate", "serviceaccounts", ""
    plural, slash, sub = resource.partition("/")
    what = f"{plural}{'.' if group else ''}{group}{slash}{sub}"
    return grant(namespace, user, verbs or verb, what, name)


def grant(namespace: str, user: str, verbs: str, resource: str, name: str = "") -> str:
    """Lets `user` do `verbs` (separated by commas) to a `resource` in the namespace, or only to the one called `name`.

    A line of two commands: a Role, whose name tells what it grants, and its binding. For all namespaces, with an
    empty one, these are a ClusterRole and its binding.
    """
    subject, whose = f"--user={shlex.quote(user)}", user
    if user.startswith(_ACCOUNT):
        space, _, whose = user.removeprefix(_ACCOUNT).partition(":")
        subject = f"--serviceaccount={space}:{whose}"
        whose = whose if space == namespace else f"{space}.{whose}"
    role = _role_name(whose, verbs, name or resource)
    only = f" --resource-name={name}" if name else ""
    kubectl, kind = (f"kubectl -n {namespace} create", "role") if namespace else ("kubectl create", "clusterrole")
    # not &&: the first half may be left from before
    return (
        f"{kubectl} {kind} {role} --verb={verbs} --resource={resource}{only};"
        f" {kubectl} {kind}binding {role} --{kind}={role} {subject}"
    )


def _role_name(whose: str, verbs: str, what: str) -> str:
    """A name of its own for each grant, so that no other grant is in its way."""
    readable = f"{whose}-{verbs}-{what}".replace(",", "-").replace("/", "-")
    if len(readable) <= _MAX_ROLE_NAME and re.fullmatch(r"[a-z0-9.-]+", readable):
        return readable
    return f"backendhealth-{hashlib.sha256(readable.encode()).hexdigest()[:12]}"
