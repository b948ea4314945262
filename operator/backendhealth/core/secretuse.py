"""What a Secret's owner allows by annotation, and the messages with the line that would grant what is not allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backendhealth.core.grants import grant
from backendhealth.core.hostlist import HostList, address_of, plain
from backendhealth.core.observation import MAX_MESSAGE
from backendhealth.core.spec.backendhealth import GROUP

ALLOW = f"{GROUP}/allow"
"""Annotation of a Secret: who of its namespace may use it, separated by commas.

A BackendHealth by its name, `*` for all of them; a RemediationPolicy as `remediationpolicy/NAME`, and
`remediationpolicy/*` for all of those. Who may look need not be one who may act.
"""
ALLOW_HOSTS = f"{GROUP}/allow-hosts"
"""Annotation of a Secret: the hosts that it may be used with; any host without it."""

_POLICY = "remediationpolicy/"
_WORD = re.compile(r"[A-Za-z0-9*?.:/_\[\]-]+")
"""What can be a name or a host; the rest of an annotation matches nothing, and is not put into a command."""
_ROOM_FOR_PREFIX = 264  # a probe puts its endpoint before the message: host:port and a colon
_MAX_KEPT = 300  # characters of an annotation that are repeated in a command
_MAX_HOST = 253


@dataclass(frozen=True, slots=True)
class Grant:
    """What a Secret's annotations say, None where they say nothing: nobody may use it, and with any host."""

    names: tuple[str, ...] | None
    hosts: tuple[str, ...] | None

    def allows(self, user: str) -> bool:
        """Whether a BackendHealth of the Secret's namespace, by name, or a policy (see `policy`) may use it."""
        kind, slash, _ = user.rpartition("/")
        return bool({f"{kind}{slash}*", user} & set(self.names or ()))

    def allows_host(self, host: str) -> bool:
        """Whether it may be used with `host`: an address by networks, a name by patterns."""
        if self.hosts is None:
            return True
        allowed = _readable(self.hosts)
        address = address_of(host)
        return "*" in self.hosts or (allowed.has_name(host) if address is None else allowed.has_address(address))


def _readable(entries: Iterable[str]) -> HostList:
    """The entries that mean something: one that doesn't allows nothing and takes nothing from the others."""
    lists = []
    for entry in entries:
        try:
            lists.append(HostList.parse([entry]))
        except ValueError:
            continue
    return HostList(tuple(n for one in lists for n in one.networks), tuple(n for one in lists for n in one.names))


def policy(name: str) -> str:
    """The RemediationPolicy of that name, as a Secret's annotation names it: no BackendHealth's name has a slash."""
    return f"{_POLICY}{name}"


def grant_of(annotations: Mapping[str, str]) -> Grant:
    """The grant that a Secret's annotations make."""
    return Grant(_entries(annotations.get(ALLOW)), _entries(annotations.get(ALLOW_HOSTS)))


def _entries(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(entry.strip() for entry in text.split(",") if entry.strip())


# What to say, with the line that grants it. The line stands in backquotes, at the end.


def not_allowed(namespace: str, secret: str, grant: Grant, user: str) -> str:
    """The message for a BackendHealth, or a policy, that the Secret's `allow` does not name."""
    name = user.removeprefix(_POLICY)
    kind = "BackendHealth" if name == user else "RemediationPolicy"
    told = f"the owner of Secret {secret} does not allow {kind} {name} to use it"
    line = _annotate(namespace, secret, ALLOW, grant.names, user)
    return _with_line(told, "the Secret's owner does not allow its use", line)


def host_not_allowed(namespace: str, secret: str, grant: Grant, host: str) -> str:
    """The message for a host, maybe one that a server has named, that the Secret's `allow-hosts` does not hold."""
    if not _WORD.fullmatch(host) or len(host) > _MAX_HOST:
        return f"the owner of Secret {secret} does not allow its use with what a server calls a host"
    told = f"the owner of Secret {secret} does not allow its use with {host}"
    line = _annotate(namespace, secret, ALLOW_HOSTS, grant.hosts, plain(host))
    return _with_line(told, "the Secret's owner does not allow its use with this host", line)


def no_account(namespace: str, backendhealth: str, secret: str) -> str:
    """The message for a BackendHealth that names no ServiceAccount."""
    patch = shlex.quote('{"spec":{"serviceAccountName":"backendhealth"}}')
    line = f"kubectl -n {namespace} patch backendhealth {backendhealth} --type=merge -p {patch}"
    told = "set spec.serviceAccountName to the ServiceAccount that may read"
    return _with_line(f"{told} Secret {secret}", f"{told} the Secret", line)


def may_not_impersonate(namespace: str, account: str, operator: str) -> str:
    """The message when the operator, a user by that name, may not act as the ServiceAccount."""
    line = grant(namespace, operator, "impersonate", "serviceaccounts", account)
    told = f"the operator may not act as ServiceAccount {account} in namespace {namespace}"
    return _with_line(told, "the operator may not act as the ServiceAccount", line)


def may_not_read(namespace: str, account: str, secret: str) -> str:
    """The message when the ServiceAccount may not read the Secret."""
    line = grant(namespace, f"system:serviceaccount:{namespace}:{account}", "get", "secrets", secret)
    told = f"ServiceAccount {account} may not read Secret {secret} in namespace {namespace}"
    return _with_line(told, "the ServiceAccount may not read the Secret", line)


def _annotate(namespace: str, secret: str, annotation: str, there: tuple[str, ...] | None, added: str) -> str:
    kept = ",".join(entry for entry in there or () if _WORD.fullmatch(entry))
    if len(kept) > _MAX_KEPT:
        return f"kubectl -n {namespace} edit secret {secret}` and add {added} to `{annotation}"
    value = shlex.quote(f"{annotation}={kept},{added}" if kept else f"{annotation}={added}")
    return f"kubectl -n {namespace} annotate secret {secret}{'' if there is None else ' --overwrite'} {value}"


def _with_line(told: str, briefly: str, line: str) -> str:
    text = f"{told}: `{line}`"
    return text if len(text) <= MAX_MESSAGE - _ROOM_FOR_PREFIX else f"{briefly}: `{line}`"
