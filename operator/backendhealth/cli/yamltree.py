"""YAML text to trees that know their lines; bounded in size, depth and alias expansion whatever the input is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import yaml

from backendhealth.cli.scalars import resolve

Loc = tuple[str | int, ...]
"""Keys and indices from the root of a document."""

MAX_VALUES = 250_000
"""Values in one file."""
MAX_EXPANDED = 100_000
"""Values in one document once its aliases are expanded."""
MAX_DEPTH = 64
MAX_FAULTS = 20
"""Faults of one text; what comes after them is not read."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What YAML counts as the end of a line."""
_SURROGATE_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_QUOTED_TEXT = re.compile(r"'[^'<\s]{4,}'|\"[^\"<\s]{4,}\"")
_TAG = "tag:yaml.org,2002:"
_ONLY_PLAIN_TAGS = "remove the tag (!…): only text, numbers, booleans, lists and mappings are read"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the text itself; lines and columns count from 1."""

    line: int
    column: int
    rule: str
    message: str
    loc: Loc = ()


@dataclass(slots=True)
class Node:
    """A value with the place where it stands; `value` is a scalar, a list of nodes, or a dict of key to entry."""

    line: int
    column: int
    value: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place and its value."""

    line: int
    column: int
    node: Node


@dataclass(slots=True)
class Tree:
    """One document of a text: its root, what it holds as plain Python, and what was wrong while reading it."""

    root: Node
    raw: Any
    faults: list[Fault] = field(default_factory=list)


class _BrokenError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def parse(text: str) -> tuple[list[Tree], list[Fault]]:
    """All documents of `text`, and the faults that kept some from being read.

    After a fault reading goes on at the next `---`, so that one run tells all.
    """
    faults = [_control_character(text, found) for found in islice(_FORBIDDEN.finditer(text), MAX_FAULTS)]
    if faults:
        return [], faults
    text = _SURROGATE_PAIR.sub(_joined, text)
    trees: list[Tree] = []
    lines: list[str] | None = None
    offset = 0
    budget = [MAX_VALUES]
    while True:
        fault = _collect(trees, _trees(text, offset, budget))
        if fault is None:
            return trees, faults
        faults.append(fault)
        if budget[0] < 0 or len(faults) >= MAX_FAULTS:
            return trees, faults
        lines = lines if lines is not None else _BREAK.split(text)
        start = max(fault.line - 1 - offset, 1)
        ahead = next((number for number in range(start, len(lines)) if lines[number].startswith("---")), None)
        if ahead is None:
            return trees, faults
        offset, lines = offset + ahead, lines[ahead:]
        text = "\n".join(lines)


def _collect(trees: list[Tree], found: Iterator[Tree]) -> Fault | None:
    try:
        for tree in found:
            trees.append(tree)  # noqa: PERF402 - those before a fault stay
    except _BrokenError as error:
        return error.fault
    return None


def _control_character(text: str, found: re.Match[str]) -> Fault:
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    message = f"control character U+{ord(found.group()):04X}: remove it"
    return Fault(line, column, "control-character", message)


def _joined(found: re.Match[str]) -> str:
    high, low = int(found.group(2), 16), int(found.group(3), 16)
    return found.group(1) + chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _trees(text: str, offset: int, budget: list[int]) -> Iterator[Tree]:
    builder = _Builder(iter(yaml.parse(text, Loader=_LOADER)), text, offset, budget)
    while (tree := builder.document()) is not None:
        yield tree


class _Builder:
    """Trees from the parser's events, which come one by one however deep or long the text is."""

    def __init__(self, events: Iterator[Any], text: str, offset: int, budget: list[int]) -> None:
        self._events = events
        self._text = text
        self._offset = offset
        self._budget = budget
        self._anchors: dict[str, Node] = {}
        self._faults: list[Fault] = []
        self._aliased = False

    def document(self) -> Tree | None:
        """The next document, or None at the end of the text."""
        event = self._next()
        while not isinstance(event, yaml.DocumentStartEvent):
            if event is None or isinstance(event, yaml.StreamEndEvent):
                return None
            event = self._next()
        self._anchors, self._faults, self._aliased = {}, [], False
        root = self._node(self._next(), ())
        left = [MAX_EXPANDED if self._aliased else MAX_VALUES]
        return Tree(root, self._plain(root, left, 0), self._faults)

    def _next(self) -> Any:
        try:
            return next(self._events, None)
        except yaml.MarkedYAMLError as error:
            raise _BrokenError(self._syntax(error)) from None
        except yaml.YAMLError as error:  # the reader's: no mark
            raise _BrokenError(Fault(self._offset + 1, 1, "yaml-syntax", _told(str(error)))) from None

    def _syntax(self, error: yaml.MarkedYAMLError) -> Fault:
        mark = error.problem_mark or error.context_mark
        if mark and error.context_mark and not self._text[mark.index :].strip():
            mark = error.context_mark  # what is never closed is told where it begins, not at the end of the text
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = _BREAK.split(self._text, line + 1)
        here = lines[line] if line < len(lines) else ""
        message = _told(f"{error.problem or 'not YAML'}{f' ({error.context})' if error.context else ''}")
        if "\t" in here[: column + 1]:
            message = "a tab: YAML is indented with spaces only"
        return Fault(self._offset + line + 1, column + 1, "yaml-syntax", message)

    def _fault(self, event: Any, rule: str, message: str, loc: Loc = ()) -> Fault:
        mark = event.start_mark
        return Fault(self._offset + mark.line + 1, mark.column + 1, rule, message, loc)

    def _node(self, event: Any, loc: Loc) -> Node:
        self._budget[0] -= 1
        if self._budget[0] < 0:
            raise _BrokenError(self._fault(event, "too-large", f"more than {MAX_VALUES:,} values: split the file"))
        if len(loc) > MAX_DEPTH:
            raise _BrokenError(self._fault(event, "too-deep", f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if isinstance(event, yaml.ScalarEvent):
            node = self._made(event, self._scalar(event, loc))
        elif event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise _BrokenError(self._fault(event, "yaml-tag", _ONLY_PLAIN_TAGS, loc))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._made(event, self._items(loc))
        else:
            node = self._made(event, self._entries(loc))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _made(self, event: Any, value: Any) -> Node:
        return Node(self._offset + event.start_mark.line + 1, event.start_mark.column + 1, value)

    def _alias(self, event: Any) -> Node:
        self._aliased = True
        node = self._anchors.get(event.anchor)
        if node is None:  # the name is not shown: it may be a password that nobody quoted
            message = "an alias without an anchor before it: text that begins with * must be quoted"
            raise _BrokenError(self._fault(event, "yaml-syntax", message))
        return node

    def _items(self, loc: Loc) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, (*loc, len(items))))
        return items

    def _entries(self, loc: Loc) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, loc)
            value = self._node(self._next(), (*loc, key))
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                merged.append(value)
                continue
            if key in entries:
                message = f"the key is already there, on line {entries[key].line}: remove one"
                self._faults.append(self._fault(event, "duplicate-key", message, (*loc, key)))
                continue
            entries[key] = Entry(self._offset + event.start_mark.line + 1, event.start_mark.column + 1, value)
        for node in merged:
            self._merge(entries, node)
        return entries

    def _key(self, event: Any, loc: Loc) -> str:
        if isinstance(event, yaml.AliasEvent):
            value = self._alias(event).value
        elif isinstance(event, yaml.ScalarEvent):
            value = self._node(event, loc).value
            if event.style or event.value == "<<":
                return str(event.value)
        else:
            value = []
        if isinstance(value, list | dict):
            raise _BrokenError(self._fault(event, "yaml-syntax", "a key must be text, not a list or a mapping", loc))
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        return str(value)

    def _merge(self, entries: dict[str, Entry], node: Node) -> None:
        for part in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(part.value, dict):
                raise _BrokenError(Fault(part.line, part.column, "yaml-syntax", "<< takes a mapping or a list of them"))
            self._budget[0] -= len(part.value)
            if self._budget[0] < 0:
                raise _BrokenError(Fault(node.line, node.column, "alias-bomb", "merges expand without measure"))
            for key, entry in part.value.items():
                entries.setdefault(key, entry)

    def _scalar(self, event: Any, loc: Loc) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            return resolve(event.value) if not event.style and tag is None else event.value
        if tag == f"{_TAG}str":
            return event.value
        value = resolve(event.value)
        kinds: dict[str, Any] = {"int": int, "float": int | float, "bool": bool, "null": type(None)}
        kind = kinds.get(tag.removeprefix(_TAG))
        if kind is None or not isinstance(value, kind):
            self._faults.append(self._fault(event, "yaml-tag", _ONLY_PLAIN_TAGS, loc))
        return value

    def _plain(self, node: Node, left: list[int], depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            message = f"its aliases expand to more than {MAX_EXPANDED:,} values or {MAX_DEPTH} levels"
            raise _BrokenError(Fault(node.line, node.column, "alias-bomb", message))
        if isinstance(node.value, list):
            return [self._plain(item, left, depth + 1) for item in node.value]
        if isinstance(node.value, dict):
            return {key: self._plain(entry.node, left, depth + 1) for key, entry in node.value.items()}
        return node.value


def _told(problem: str) -> str:
    """The parser's words without quotations of the text, which may hold a secret."""
    return _QUOTED_TEXT.sub("…", " ".join(problem.split()))[:300]
