"""What a user's YAML holds: BackendHealth resources, Secrets, and all that is wrong with it."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backendhealth.cli.documents import Document, FileProblem, read_all
from backendhealth.core.spec.backendhealth import API_VERSION, GROUP, KIND, BackendHealth
from backendhealth.core.validate import unknown_metadata, validate
from backendhealth.core.wording import closest

_KUBERNETES_KEYS = ("apiVersion", "kind", "metadata", "spec")


@dataclass(slots=True)
class Loaded:
    """All that was read. `secrets` are by (namespace, name); a resource with a problem is not among `resources`.

    `sources` counts the files that held documents, `seen` the BackendHealth documents, good or bad.
    """

    resources: list[BackendHealth] = field(default_factory=list)
    secrets: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict, repr=False)
    problems: list[FileProblem] = field(default_factory=list)
    sources: int = 0
    seen: int = 0


def load(paths: Sequence[str]) -> Loaded:
    """Reads files, folders and `-`. Never raises for what is in them: everything wrong is in `problems`."""
    documents, problems = read_all(paths)
    loaded = Loaded(problems=problems, sources=len({document.source for document in documents}))
    seen: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        found = _kind(document)
        if isinstance(found, list):
            loaded.problems.extend(found)
        elif found == KIND:
            _add_resource(loaded, document, seen)
        elif found == "Secret":
            _add_secret(loaded, document, seen)
    loaded.problems.sort(key=lambda problem: (problem.source, problem.line, problem.column))
    return loaded


def _kind(document: Document) -> str | list[FileProblem]:
    """`BackendHealth`, `Secret`, an empty string for what is not ours, or what is wrong with the kind."""
    raw = document.raw
    if not isinstance(raw, Mapping):
        seen = "a list" if isinstance(raw, list) else "a single value"
        return [document.problem((), "type", f"must be an object with apiVersion, kind, metadata and spec, not {seen}")]
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if version is None and kind is None and not any(key in raw for key in _KUBERNETES_KEYS):
        return ""
    problems = [
        document.problem((key,), "required", f"set it: {key}: {value}")
        for key, value in (("apiVersion", API_VERSION), ("kind", KIND))
        if raw.get(key) is None
    ]
    if problems:
        return problems
    if (version, kind) == ("v1", "Secret"):
        return "Secret"
    if (version, kind) == (API_VERSION, KIND):
        return KIND
    return _unknown_kind(document, version, kind)


def _unknown_kind(document: Document, version: Any, kind: Any) -> str | list[FileProblem]:
    group = str(version).split("/")[0]
    ours = closest(group, [GROUP]) == GROUP
    named = closest(str(kind), [KIND]) == KIND
    if not ours and not named:
        return ""
    problems = []
    if version != API_VERSION:
        message = f"this program knows {API_VERSION} only"
        problems.append(document.problem(("apiVersion",), "unknown-kind", message, API_VERSION))
    if kind != KIND:
        message = f"{GROUP} has no such kind: it has {KIND}"
        problems.append(document.problem(("kind",), "unknown-kind", message, KIND if named else ""))
    return problems


def _add_resource(loaded: Loaded, document: Document, seen: dict[tuple[str, str, str], Document]) -> None:
    loaded.seen += 1
    resource, problems = validate(document.raw)
    problems += unknown_metadata(document.raw)
    found = [document.problem(p.loc, p.rule, p.message, p.suggestion) for p in problems]
    found += _duplicate(document, KIND, seen)
    loaded.problems.extend(found)
    if resource is not None and not found:
        loaded.resources.append(resource)


def _identity(document: Document) -> tuple[str, str] | None:
    metadata = document.raw.get("metadata")
    name, namespace = (metadata.get(key) for key in ("name", "namespace")) if isinstance(metadata, Mapping) else (0, 0)
    return (namespace or "default", name) if isinstance(name, str) and isinstance(namespace, str | None) else None


def _duplicate(document: Document, kind: str, seen: dict[tuple[str, str, str], Document]) -> list[FileProblem]:
    identity = _identity(document)
    if identity is None:
        return []
    first = seen.setdefault((kind, *identity), document)
    if first is document:
        return []
    message = f"the same {kind} is already in {first.source}, line {first.line}: rename or remove one"
    return [document.problem(("metadata", "name"), "duplicate-resource", message)]


def _add_secret(loaded: Loaded, document: Document, seen: dict[tuple[str, str, str], Document]) -> None:
    identity = _identity(document)
    if identity is None:
        loaded.problems.append(document.problem(("metadata", "name"), "required", "a Secret needs a name"))
        return
    loaded.problems.extend(_duplicate(document, "Secret", seen))
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
