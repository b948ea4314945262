"""A place in the code turned off, for the time of a test: its proof is worth something only if it fails then."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

import pytest


@dataclass(frozen=True)
class Off:
    """A function, what stands in its source exactly once, and what instead."""

    function: Callable[..., Any]
    edits: tuple[tuple[str, str], ...]

    def turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The function itself is changed, under whatever name it is called."""
        source = textwrap.dedent(inspect.getsource(self.function))
        for old, new in self.edits:
            assert source.count(old) == 1, f"{self.function.__qualname__} has changed: {old}"
            source = source.replace(old, new)
        flags = __future__.annotations.compiler_flag
        module = compile(source, f"<{self.function.__qualname__}, turned off>", "exec", flags, dont_inherit=True)
        found = [one for one in module.co_consts if isinstance(one, CodeType)]
        [code] = [one for one in found if one.co_name == self.function.__name__]
        monkeypatch.setattr(self.function, "__code__", code)


@dataclass(frozen=True)
class OffText:
    """The same of a text of a module: what stands in it exactly once, and what instead."""

    module: ModuleType
    name: str
    old: str
    new: str

    def turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = getattr(self.module, self.name)
        assert text.count(self.old) == 1, f"{self.name} has changed: {self.old}"
        monkeypatch.setattr(self.module, self.name, text.replace(self.old, self.new))


def off(function: Callable[..., Any], *edits: tuple[str, str]) -> Off:
    return Off(function, edits)
