"""Which failures of a write are worth another try, how soon and how often."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from backendhealth.kube.api import ApiError, ApiUnavailable

LONGEST_WAIT = 10.0
"""Seconds between two tries at most, unless the API server asks for more."""
LONGEST_ASKED = 30.0
"""Seconds that the API server may ask us to wait."""
REFUSALS = 5
"""Answers that say no, until others have their turn."""

_backoff = wait_random_exponential(multiplier=0.25, max=LONGEST_WAIT)
_soon = wait_random_exponential(multiplier=0.02, max=1.0)


def transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: no answer, a conflict, too many requests, the server's own fault."""
    if isinstance(error, ApiError):
        return error.status in {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS} or error.status >= 500
    return isinstance(error, ApiUnavailable)


def attempts(again: Callable[[BaseException], bool]) -> AsyncRetrying:
    """Repeats a call for as long as nobody answers, and through a few refusals for which `again` holds.

    Raises the last failure.
    """
    refusals = 0

    def enough(state: RetryCallState) -> bool:
        nonlocal refusals
        refusals += isinstance(_failure(state), ApiError)
        return refusals >= REFUSALS

    return AsyncRetrying(retry=retry_if_exception(again), wait=_wait, stop=enough, reraise=True)


def _wait(state: RetryCallState) -> float:
    failure = _failure(state)
    if not isinstance(failure, ApiError):
        return _backoff(state)
    if failure.status == HTTPStatus.CONFLICT:
        return _soon(state)
    return max(_backoff(state), min(failure.retry_after, LONGEST_ASKED))


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
