"""JSONPath (RFC 9535) with a bound on the work: whoever writes a path or a document must not stop the whole process.

What is left out: in filters, queries that can select more than one value (with the functions count and value, which
are for those) and queries from the root.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import jsonpath
from jsonpath.filter import BaseExpression, FilterQuery, RootFilterQuery
from jsonpath.function_extensions import Match, Search
from jsonpath.selectors import Filter

from backendhealth.core.patterns import PatternError, compiled

MAX_VISITS = 50_000
"""Nodes that one evaluation visits at most."""


class TooMuchWorkError(Exception):
    """A path would visit more than MAX_VISITS nodes."""


class JsonPath:
    """A compiled path."""

    def __init__(self, path: str) -> None:
        """Raises ValueError, saying what is wrong, for a path that is not one or that uses what is left out."""
        try:
            self._path = cast("jsonpath.JSONPath", _ENVIRONMENT.compile(path))  # a union only where not strict
        except jsonpath.JSONPathError as error:
            raise ValueError(str(error).split("\n", 1)[0]) from None
        except (RecursionError, OverflowError):
            raise ValueError("nested too deeply, or with numbers that are too large") from None
        for segment in self._path.segments:
            for selector in segment.selectors:
                if isinstance(selector, Filter):
                    _check_filter(selector.expression)

    def find(self, document: object) -> list[tuple[str, object]]:
        """The place (as a normalized path) and the value of each node that is selected, in order.

        Raises TooMuchWorkError, also for documents that are nested too deeply.
        """
        budget = _Budget()
        root = _CountedNode(
            filter_context={"budget": budget}, obj=document, parent=None, path="$", parts=(), root=document
        )
        nodes: Any = [root]
        for segment in self._path.segments:
            nodes = segment.resolve(nodes)
        try:
            return [(node.path, node.obj) for node in nodes]
        except (jsonpath.JSONPathError, RecursionError):
            raise TooMuchWorkError from None


def _check_filter(expression: BaseExpression) -> None:
    for part in _walk(expression):
        if isinstance(part, RootFilterQuery):
            raise ValueError("a filter can't start at the root `$`: use `@`")  # noqa: TRY004
        if isinstance(part, FilterQuery) and not part.path.singular_query():
            raise ValueError("a query in a filter must select one value at most: no `*`, `..`, `:` or `?` in it")


def _walk(expression: BaseExpression) -> Iterator[BaseExpression]:
    yield expression
    if not isinstance(expression, FilterQuery):
        for child in expression.children():
            yield from _walk(child)


class _Budget:
    """Counts down the visits of one evaluation."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_VISITS

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooMuchWorkError


class _CountedNode(jsonpath.JSONPathMatch):
    """A visited node. One is made for each step, and each filter asks it for its context: both are counted."""

    __slots__ = ()

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._filter_context["budget"].spend()

    def filter_context(self) -> Any:
        self._filter_context["budget"].spend()
        return self._filter_context


def _re2_or_none(pattern: str) -> Any:
    """RFC 9535: a function with an expression that is not one selects nothing."""
    try:
        return compiled(pattern)
    except PatternError:
        return None


class _Re2Match(Match):
    def check_cache(self, pattern: str) -> Any:
        return _re2_or_none(pattern)


class _Re2Search(Search):
    def check_cache(self, pattern: str) -> Any:
        return _re2_or_none(pattern)


class _Environment(jsonpath.JSONPathEnvironment):
    """Strict, with regular expressions that take linear time."""

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        # Of use with queries for several values only; on a scalar the library's raise what it does not document.
        del self.function_extensions["count"], self.function_extensions["value"]
        self.function_extensions["match"] = _Re2Match()
        self.function_extensions["search"] = _Re2Search()


_ENVIRONMENT = _Environment(strict=True)
