"""What a user's YAML holds: objects of our kinds, their tests, Secrets, and all that is wrong with it."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from backendhealth.cli.documents import Document, FileProblem, read_all
from backendhealth.cli.references import unknown_built_in
from backendhealth.core.spec.backendhealth import API_VERSION, GROUP, KIND, BackendHealth
from backendhealth.core.spec.diagnosistest import TEST_KIND, DiagnosisTest
from backendhealth.core.spec.policytest import POLICY_TEST_KIND, RemediationPolicyTest
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfile
from backendhealth.core.spec.remediation import REMEDIATION_KIND
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, RemediationPolicy
from backendhealth.core.validate import (
    Problem,
    unknown_metadata,
    validate,
    validate_policy,
    validate_policy_test,
    validate_profile,
    validate_remediation,
    validate_test,
)
from backendhealth.core.wording import closest

KINDS = (KIND, PROFILE_KIND, POLICY_KIND, REMEDIATION_KIND, TEST_KIND, POLICY_TEST_KIND)
T = TypeVar("T")
_KUBERNETES_KEYS = ("apiVersion", "kind", "metadata", "spec")


@dataclass(slots=True)
class Loaded:
    """All that was read. `secrets` are by (namespace, name), `documents` by (kind, namespace, name).

    What has a problem is not among them; Remediations are checked and not kept. `sources` counts the files that held
    documents, `seen` the documents of our kinds, good or bad.
    """

    resources: list[BackendHealth] = field(default_factory=list)
    profiles: list[DiagnosisProfile] = field(default_factory=list)
    tests: list[DiagnosisTest] = field(default_factory=list)
    policies: list[RemediationPolicy] = field(default_factory=list)
    policy_tests: list[RemediationPolicyTest] = field(default_factory=list)
    secrets: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict, repr=False)
    problems: list[FileProblem] = field(default_factory=list)
    sources: int = 0
    seen: int = 0
    documents: dict[tuple[str, str, str], Document] = field(default_factory=dict, repr=False)


def load(paths: Sequence[str]) -> Loaded:
    """Reads files, folders and `-`. Never raises for what is in them: everything wrong is in `problems`."""
    documents, problems = read_all(paths)
    loaded = Loaded(problems=problems, sources=len({document.source for document in documents}))
    for document in documents:
        found = _kind(document)
        if isinstance(found, list):
            loaded.problems.extend(found)
        elif found == KIND:
            _add_resource(loaded, document)
        elif found == PROFILE_KIND:
            _add(loaded, document, PROFILE_KIND, *validate_profile(document.raw), to=loaded.profiles)
        elif found == TEST_KIND:
            _add(loaded, document, TEST_KIND, *validate_test(document.raw), to=loaded.tests)
        elif found == POLICY_KIND:
            _add(loaded, document, POLICY_KIND, *validate_policy(document.raw), to=loaded.policies)
        elif found == POLICY_TEST_KIND:
            _add(loaded, document, POLICY_TEST_KIND, *validate_policy_test(document.raw), to=loaded.policy_tests)
        elif found == REMEDIATION_KIND:
            _has_problems(loaded, document, REMEDIATION_KIND, validate_remediation(document.raw)[1])
        elif found == "Secret":
            _add_secret(loaded, document)
    loaded.problems.sort(key=lambda problem: (problem.source, problem.line, problem.column))
    return loaded


def _kind(document: Document) -> str | list[FileProblem]:
    """One of our kinds or `Secret`, an empty string for what is not ours, or what is wrong with the kind."""
    raw = document.raw
    if not isinstance(raw, Mapping):
        seen = "a list" if isinstance(raw, list) else "a single value"
        return [document.problem((), "type", f"must be an object with apiVersion, kind, metadata and spec, not {seen}")]
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if version is None and kind is None and not any(key in raw for key in _KUBERNETES_KEYS):
        return ""
    problems = [
        document.problem((key,), "required", f"set it: {key}: {value}")
        for key, value in (("apiVersion", API_VERSION), ("kind", " or ".join(KINDS)))
        if raw.get(key) is None
    ]
    if problems:
        return problems
    if (version, kind) == ("v1", "Secret"):
        return "Secret"
    if version == API_VERSION and kind in KINDS:
        return str(kind)
    return _unknown_kind(document, version, kind)


def _unknown_kind(document: Document, version: Any, kind: Any) -> str | list[FileProblem]:
    group = str(version).split("/")[0]
    ours = closest(group, [GROUP]) == GROUP
    named = closest(str(kind), KINDS)
    if not ours and not named:
        return ""
    problems = []
    if version != API_VERSION:
        message = f"this program knows {API_VERSION} only"
        problems.append(document.problem(("apiVersion",), "unknown-kind", message, API_VERSION))
    if kind not in KINDS:
        message = f"{GROUP} has no such kind: it has {', '.join(KINDS[:-1])} and {KINDS[-1]}"
        problems.append(document.problem(("kind",), "unknown-kind", message, named))
    return problems


def _add_resource(loaded: Loaded, document: Document) -> None:
    resource, problems = validate(document.raw)
    if resource is not None:
        problems += unknown_built_in(resource)
    if not _has_problems(loaded, document, KIND, problems) and resource is not None:
        loaded.resources.append(resource)


def _add(  # noqa: PLR0913 - what was read, and where it goes
    loaded: Loaded, document: Document, kind: str, found: T | None, problems: list[Problem], *, to: list[T]
) -> None:
    if not _has_problems(loaded, document, kind, problems) and found is not None:
        to.append(found)


def _has_problems(loaded: Loaded, document: Document, kind: str, problems: list[Problem]) -> bool:
    """Puts all that is wrong with a document of our kinds down."""
    loaded.seen += 1
    found = [document.problem(p.loc, p.rule, p.message, p.suggestion) for p in problems]
    found += [document.problem(p.loc, p.rule, p.message, p.suggestion) for p in unknown_metadata(document.raw)]
    found += _duplicate(loaded, document, kind)
    loaded.problems.extend(found)
    return bool(found)


def _identity(document: Document) -> tuple[str, str] | None:
    metadata = document.raw.get("metadata")
    name, namespace = (metadata.get(key) for key in ("name", "namespace")) if isinstance(metadata, Mapping) else (0, 0)
    return (namespace or "default", name) if isinstance(name, str) and isinstance(namespace, str | None) else None


def _duplicate(loaded: Loaded, document: Document, kind: str) -> list[FileProblem]:
    identity = _identity(document)
    if identity is None:
        return []
    first = loaded.documents.setdefault((kind, *identity), document)
    if first is document:
        return []
    message = f"the same {kind} is already in {first.source}, line {first.line}: rename or remove one"
    return [document.problem(("metadata", "name"), "duplicate-resource", message)]


def _add_secret(loaded: Loaded, document: Document) -> None:
    identity = _identity(document)
    if identity is None:
        loaded.problems.append(document.problem(("metadata", "name"), "required", "a Secret needs a name"))
        return
    loaded.problems.extend(_duplicate(loaded, document, "Secret"))
    values: dict[str, bytes] = {}
    for part, decode in (("data", _from_base64), ("stringData", _from_text)):
        entries = document.raw.get(part) or {}
        if not isinstance(entries, Mapping):
            loaded.problems.append(document.problem((part,), "type", "must be a mapping of keys to text"))
            continue
        for key, value in entries.items():
            try:
                values[key] = decode(value)
            except _SecretValueError as error:
                loaded.problems.append(document.problem((part, key), error.rule, error.message))
    loaded.secrets[identity] = values


class _SecretValueError(Exception):
    """What is wrong with a Secret's value, without the value."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule, self.message = rule, message


def _from_base64(value: Any) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise _SecretValueError("type", "must be text in base64: quote it, or use stringData")
    try:
        return b64decode(value.replace("\r", "").replace("\n", ""), validate=True)  # other white space Go refuses
    except (binascii.Error, ValueError):
        raise _SecretValueError("base64", "not base64: encode it, or write it as is under stringData") from None


def _from_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _SecretValueError("type", "must be text: put it in quotes")
    return value.encode()
