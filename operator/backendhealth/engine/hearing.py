"""Who answers us: what it takes to tell a backend that has died from our own network that is lost."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice, takewhile

from backendhealth.core.observation import Observation
from backendhealth.core.probestate import NOBODY, ProbeState, silent

ProbeKey = tuple[str, str]
"""Key of the resource (`namespace/name`) and name of the probe."""
_NOT_YET = -sys.float_info.max  # before all times, and not NOBODY: that nobody was heard yet is not silence
MOST_ASKED = 16
"""Others that one silent attempt has asked at once: each of them can vouch for our network. The next asks others."""


class Hearing:
    """What all probes have heard. A probe counts as long as its attempts try the network."""

    def __init__(self) -> None:
        self._hosts: dict[ProbeKey, frozenset[str]] = {}
        self._trying: set[ProbeKey] = set()
        self._places: Counter[frozenset[str]] = Counter()
        self._started: dict[ProbeKey, float] = {}
        self._mute: set[ProbeKey] = set()
        self._unheard: set[ProbeKey] = set()
        self._asked: set[ProbeKey] = set()
        self._heard = _NOT_YET

    @property
    def unheard(self) -> list[ProbeKey]:
        """The mute probes whose failure may be our own network's."""
        return sorted(self._unheard)

    def expect(self, key: ProbeKey, hosts: frozenset[str]) -> None:
        """Count on a probe of `hosts`. One of none (pods: the API server tells of them) says nothing of the network."""
        if not hosts:
            return
        self._hosts[key] = hosts
        self._try(key, tries=True)

    def forget(self, key: ProbeKey) -> None:
        """Count on it no longer."""
        if key in self._hosts:
            self._try(key, tries=False)
            del self._hosts[key]
        self._started.pop(key, None)
        for group in (self._mute, self._unheard, self._asked):
            group.discard(key)

    def hear(self, key: ProbeKey, seen: Observation) -> None:
        """Take what came of an attempt."""
        if key not in self._hosts:
            return
        self._started.pop(key, None)  # in again at the end: those heard of longest ago come first
        self._started[key] = seen.started
        self._asked.discard(key)
        if seen.finding.contact:
            # whatever came back came after the start; it may have come long before the end
            self._heard = max(self._heard, seen.started)
        self._try(key, tries=seen.finding.contact or silent(seen.finding))

    def elsewhere(self, key: ProbeKey) -> float | None:
        """When the last attempt began that anybody answered; None without another host, NOBODY when all are mute."""
        if len(self._places) == (self._hosts.get(key) in self._places):
            return None
        return NOBODY if self._mute >= self._trying else self._heard

    def believe(self, key: ProbeKey, state: ProbeState) -> None:
        """Take what is believed of a probe now."""
        if key not in self._hosts:
            return
        (self._mute.add if state.mute else self._mute.discard)(key)
        (self._unheard.add if state.mute and not state.confirmed else self._unheard.discard)(key)

    def to_ask(self, key: ProbeKey, seen: Observation, state: ProbeState) -> list[ProbeKey]:
        """Whose next attempt should come at once: the unheard when anything came back, else those who can vouch."""
        if key not in self._hosts or (seen.finding.contact and not self._unheard):  # as nearly always
            return []
        since = state.silent_since if state.armed_at is None else state.armed_at
        if seen.finding.contact:
            asked = sorted(self._unheard - self._asked - {key})
        elif state.confirmed or since is None:
            asked = []
        else:
            before = takewhile(lambda one: one[1] < since, self._started.items())
            others = (k for k, _ in before if k != key and k in self._trying and k not in self._asked)
            asked = list(islice(others, MOST_ASKED))
        self._asked.update(asked)
        return asked

    def _try(self, key: ProbeKey, *, tries: bool) -> None:
        if tries is (key in self._trying):
            return
        hosts = self._hosts[key]
        if tries:
            self._trying.add(key)
            self._places[hosts] += 1
            return
        self._trying.discard(key)
        self._places[hosts] -= 1
        if not self._places[hosts]:
            del self._places[hosts]
