"""The documents behind `-f` arguments: files, folders, standard input; several in a file; lists of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backendhealth.cli.yamltree import Fault, Loc, Node, parse
from backendhealth.core.observation import clip
from backendhealth.core.wording import path_text

MAX_BYTES = 5 * 1024 * 1024
STDIN = "stdin"
_MAX_LINE = 4096
_LISTS = (
    *("List", "SecretList", "BackendHealthList", "DiagnosisProfileList", "DiagnosisTestList"),
    *("RemediationPolicyList", "RemediationList", "RemediationPolicyTestList"),
)
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Something wrong at a place of a file; line and column count from 1 and are 0 where there is none."""

    source: str
    line: int
    column: int
    path: str
    rule: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        path = f" {self.path}:" if self.path else ""
        meant = f' (did you mean "{self.suggestion}"?)' if self.suggestion else ""
        # on one line, without what a terminal would obey: a message may quote an expression, a file have any name
        return clip(f"{self.source}{place}:{path} [{self.rule}] {self.message}{meant}", _MAX_LINE)


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file. `prefix` leads to it where it is an item of a List."""

    source: str
    raw: Any
    root: Node
    prefix: Loc = ()

    @property
    def line(self) -> int:
        """Line where the object begins."""
        return self.root.line

    def place(self, loc: Loc) -> tuple[int, int]:
        """Line and column of the key or item at `loc`, or of the nearest that is there."""
        place = (self.root.line, self.root.column)
        node = self.root
        for key in loc:
            if isinstance(node.value, dict) and key in node.value:
                entry = node.value[key]
                place, node = (entry.line, entry.column), entry.node
            elif isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                place = (node.line, node.column)
            else:
                break
        return place

    def problem(self, loc: Loc, rule: str, message: str, suggestion: str = "") -> FileProblem:
        """A problem at `loc` of this document."""
        line, column = self.place(loc)
        return FileProblem(self.source, line, column, path_text(self.prefix + loc), rule, message, suggestion)


def read_all(paths: Sequence[str]) -> tuple[list[Document], list[FileProblem]]:
    """Every document under `paths`, in order, and what could not be read."""
    documents: list[Document] = []
    problems: list[FileProblem] = []
    seen: set[str] = set()
    for source, path in _files(paths, problems):
        real = os.path.realpath(path) if path else STDIN
        if real in seen:
            continue
        seen.add(real)
        text = _text(source, path, problems)
        if text is not None:
            documents.extend(_documents(source, text, problems))
    return documents, problems


def _files(paths: Sequence[str], problems: list[FileProblem]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == "-":
            yield STDIN, ""
        elif Path(path).is_dir():
            found = sorted(_under(path))
            if not found:
                problems.append(_whole(path, "no-files", f"the folder has no {', '.join(_SUFFIXES)} file"))
            yield from ((file, file) for file in found)
        else:
            yield path, path


def _under(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            os.path.join(parent, name)  # noqa: PTH118 - keeps a leading ./ as the user wrote it
            for name in files
            if name.endswith(_SUFFIXES) and not name.startswith(".")
        )


def _whole(source: str, rule: str, message: str) -> FileProblem:
    return FileProblem(source, 0, 0, "", rule, message)


def _text(source: str, path: str, problems: list[FileProblem]) -> str | None:
    try:
        content = _content(path)
    except OSError as error:
        problems.append(_whole(source, "unreadable", f"can't be read: {error.strerror or 'input/output error'}"))
        return None
    if len(content) > MAX_BYTES:
        problems.append(_whole(source, "too-large", f"more than {MAX_BYTES >> 20} MiB: split the file"))
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
        problems.append(FileProblem(source, line, column, "", "not-utf8", message))
        return None


def _content(path: str) -> bytes:
    if not path:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(path).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _documents(source: str, text: str, problems: list[FileProblem]) -> Iterator[Document]:
    trees, faults = parse(text)
    problems.extend(_problem(source, fault) for fault in faults)
    full = [tree for tree in trees if tree.raw is not None]
    if not full and not faults:
        problems.append(_whole(source, "empty-file", "nothing in it: a BackendHealth or DiagnosisProfile is expected"))
    for tree in full:
        document = Document(source, tree.raw, tree.root)
        problems.extend(_problem(source, fault) for fault in tree.faults)
        yield from _items(document, problems)


def _problem(source: str, fault: Fault) -> FileProblem:
    return FileProblem(source, fault.line, fault.column, path_text(fault.loc), fault.rule, fault.message)


def _items(document: Document, problems: list[FileProblem]) -> Iterator[Document]:
    """The document, or its items when it is a `List`."""
    raw = document.raw
    if not isinstance(raw, Mapping) or raw.get("kind") not in _LISTS:
        yield document
        return
    items = raw.get("items")
    if not isinstance(items, list):
        problems.append(document.problem(("items",), "type", "must be a list of objects"))
        return
    for index, item in enumerate(items):
        node = document.root.value["items"].node.value[index]
        yield from _items(Document(document.source, item, node, (*document.prefix, "items", index)), problems)
