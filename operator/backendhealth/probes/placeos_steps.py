"""What PlaceOS's answers mean, step by step; pure."""

from __future__ import annotations

import re

from backendhealth.core.observation import Fact, Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import PlaceosProbe
from backendhealth.probes.matching import excerpt
from backendhealth.probes.placeos_client import FORBIDDEN, NOT_FOUND, SERVER_ERROR, UNAUTHORIZED, Reply

DEEP = {
    "auth": "the configuration database",
    "core": "Redis, discovery and the configuration database",
    "search-ingest": "the search index and the configuration database",
    "source": "Redis and the configuration database",
}
"""Services whose health page asks their backends, and which."""

_NO_CORE = re.compile(r"no (registered )?core instances", re.IGNORECASE)
_CONNECT = re.compile(
    r"connect(ing|ion)? |connection (refused|reset)|lookup .*failed|timed out|broken pipe|no route|unreachable",
    re.IGNORECASE,
)
_BAD_GATEWAY, _GATEWAY_TIMEOUT = 502, 504
_REDIRECTS = range(300, 400)


def skipped(because: str) -> Finding:
    """The finding of a step that was not tried."""
    return Finding(Reason.STEP_SKIPPED, clip(f"not tried: {because}"))


def unlike(what: str, reply: Reply) -> Finding:
    """The finding for an answer that no PlaceOS gives."""
    begins = f"its body begins {excerpt(reply.text)}" if reply.text else "its body is empty"
    more = "" if reply.whole else " and is too long to be read"
    return Finding(Reason.PROTOCOL_ERROR, clip(f"{what}: the answer is not PlaceOS's: {begins}{more}"))


def refusal(what: str, reply: Reply) -> Finding | None:
    """What an answer without success means, whatever was asked; None for success."""
    if reply.good:
        return None
    if reply.status == UNAUTHORIZED:
        return skipped(f"PlaceOS lets us in with no request ({reply.told}): see login")
    if reply.status == FORBIDDEN:
        return Finding(Reason.PERMISSION_DENIED, clip(f"{what}: the user may not: {reply.told}"))
    return Finding(Reason.REQUEST_FAILED, clip(f"{what} fails: {reply.told}"))


def version(place: str, reply: Reply) -> Finding:
    """Whether the API itself answers."""
    if _BAD_GATEWAY <= reply.status <= _GATEWAY_TIMEOUT:
        told = f"{place} answers, but has no API behind it: {reply.told}"
        return Finding(Reason.REQUEST_FAILED, clip(told))
    if reply.status >= SERVER_ERROR:
        return Finding(Reason.REQUEST_FAILED, clip(f"{place}: the API fails to tell its version: {reply.told}"))
    if reply.status in _REDIRECTS:
        return Finding(Reason.UNEXPECTED_STATUS, f"{place} redirects (status {reply.status}): use the URL it leads to")
    if reply.status in (UNAUTHORIZED, FORBIDDEN):
        return Finding(Reason.PROBE_SUCCEEDED, f"{place}: the API answers")
    if not reply.good:
        return Finding(Reason.UNEXPECTED_STATUS, clip(f"{place} answers, but not as PlaceOS's API: {reply.told}"))
    if not isinstance(reply.json, dict) or not isinstance(reply.json.get("version"), str):
        return unlike(f"{place}: version", reply)
    name = clip(reply.json["version"], 64)
    facts: dict[str, Fact] = {"version": name}
    return Finding(Reason.PROBE_SUCCEEDED, f"{place}: the API answers, version {name}", facts=facts)


def own_health(finding: Finding, health: Reply | None) -> Finding:
    """`finding` of the API itself, with what its health page says of its backends."""
    if health is None:
        return finding
    facts = {**finding.facts, "healthStatus": health.status}
    if health.status < SERVER_ERROR or finding.reason is not Reason.PROBE_SUCCEEDED:
        return Finding(finding.reason, finding.message, facts=facts)
    told = f"{finding.message}; its health page fails ({health.told}): one of Redis, discovery and the database is away"
    return Finding(Reason.BACKEND_FAILING, clip(told), facts=facts)


def systems(reply: Reply) -> Finding:
    """Whether systems are listed."""
    refused = refusal("listing systems", reply)
    if refused is not None:
        return refused
    if not isinstance(reply.json, list):
        return unlike("listing systems", reply)
    return Finding(Reason.PROBE_SUCCEEDED, "systems are listed")


def modules(target: PlaceosProbe, reply: Reply) -> Finding:
    """Whether the system's modules are listed, which the database alone does."""
    what = f"listing the modules of {target.system}"
    if reply.status == NOT_FOUND:
        return Finding(Reason.MODULE_NOT_FOUND, clip(f"{what}: there is no such system: {reply.told}"))
    refused = refusal(what, reply)
    if refused is not None:
        return refused
    if not isinstance(reply.json, list):
        return unlike(what, reply)
    if not reply.json:
        return Finding(Reason.MODULE_NOT_FOUND, f"{target.system} has no modules, or does not exist")
    return Finding(Reason.PROBE_SUCCEEDED, f"modules of {target.system} are listed")


def functions(target: PlaceosProbe, reply: Reply) -> Finding:
    """Whether the module's functions are listed, which Redis alone does."""
    what = f"listing the functions of {target.module}"
    if reply.status == NOT_FOUND:
        told = f"{what}: the module's metadata is not found: {reply.told}"
        return Finding(Reason.MODULE_NOT_FOUND, clip(told))
    refused = refusal(what, reply)
    if refused is not None:
        return refused
    if not isinstance(reply.json, dict):
        return unlike(what, reply)
    if target.function is not None and target.function not in reply.json:
        return Finding(Reason.FUNCTION_NOT_FOUND, f"{target.module} has no function {target.function}")
    return Finding(Reason.PROBE_SUCCEEDED, f"functions of {target.module} are listed")


def both(first: Finding, second: Finding | None) -> Finding:
    """The worse of two, with the words of both where both fail."""
    if second is None or second.reason is Reason.PROBE_SUCCEEDED:
        return first
    if first.reason is Reason.PROBE_SUCCEEDED:
        return second
    worse = max((first, second), key=lambda one: one.verdict.rank)
    same = first.message == second.message
    return Finding(worse.reason, first.message if same else clip(f"{first.message}; {second.message}"))


def execute(target: PlaceosProbe, reply: Reply) -> Finding:
    """What came of executing the function."""
    what = f"executing {target.function} on {target.module}"
    if reply.good:
        return Finding(Reason.PROBE_SUCCEEDED, f"{target.function} was executed on {target.module}")
    message = reply.json.get("message") if isinstance(reply.json, dict) else None
    if not isinstance(message, str) or not message:
        return refusal(what, reply) or unlike(what, reply)
    reason, meaning = failed_execute(message)
    return Finding(reason, clip(f"{what}: {meaning}: {reply.told}"))


def failed_execute(message: str) -> tuple[Reason, str]:
    """Reason and meaning of the API's message about a function that was not executed, or ended in an error."""
    if message.startswith("module raised"):
        return Reason.MODULE_RAISED, "it was executed, and the driver raised an exception of its own"
    if _NO_CORE.search(message):
        return Reason.NO_CORE_INSTANCES, "no core is registered: it is down, or can't reach discovery"
    if "could not find module" in message:
        return Reason.MODULE_NOT_FOUND, "the module's mapping or metadata is missing in Redis"
    if "could not find function" in message:
        return Reason.FUNCTION_NOT_FOUND, "the module has no such function"
    if "privileged function" in message:
        return Reason.PERMISSION_DENIED, "the user may not execute it"
    if message.startswith("unexpected response code"):
        return Reason.CORE_REFUSED, "core was reached and refuses; its log says why"
    if _CONNECT.search(message):
        # names no backend: signatures look for their names in what the API says itself
        return Reason.CONNECT_FAILED, "the API can't reach what it needs for that"
    return Reason.EXECUTE_FAILED, "it fails"


def service(name: str, place: str, reply: Reply) -> Finding:
    """Whether a service is healthy, by its own page."""
    if reply.good:
        told = "is healthy, its backends included" if name in DEEP else "answers"
        return Finding(Reason.PROBE_SUCCEEDED, f"{name} at {place} {told}")
    if name in DEEP and reply.status == SERVER_ERROR:
        told = f"{name} at {place} answers, but its check of {DEEP[name]} fails ({reply.told})"
        return Finding(Reason.BACKEND_FAILING, clip(told))
    return Finding(Reason.UNEXPECTED_STATUS, clip(f"{name} at {place} is not healthy: {reply.told}"))
