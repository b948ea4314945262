"""Objects of one kind as a watch shows them and as we wrote them ourselves, whichever is newer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar


class Versioned(Protocol):
    """What tells objects and their versions apart."""

    @property
    def namespace(self) -> str:
        """Where it is."""
        ...

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def uid(self) -> str:
        """Another object of the same name has another one."""
        ...

    @property
    def version(self) -> str:
        """Its resourceVersion."""
        ...


T = TypeVar("T", bound=Versioned)


class Remembered(Generic[T]):
    """By namespace and name. What is told late (a watch that lags, a list that began earlier) undoes nothing newer."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, T]] = {}
        self._unconfirmed: set[str] = set()
        """UIDs of what we wrote and the watch has not shown yet: a list that began before may lack it."""
        self._deleted: set[str] = set()
        """UIDs of what we deleted and the watch still may show."""
        self._changes: Counter[str] = Counter()
        self._lists = 0

    def within(self, namespace: str) -> Mapping[str, T]:
        """By name, all of the namespace."""
        return self._objects.get(namespace, {})

    def revision(self, namespace: str) -> Hashable:
        """Another one after each change of what is `within`."""
        return self._lists, self._changes[namespace]

    @property
    def namespaces(self) -> list[str]:
        """Those that there is anything in."""
        return [name for name, beside in self._objects.items() if beside]

    def listed(self, objects: Sequence[T]) -> None:
        """These are all that there are."""
        before, self._objects = self._objects, {}
        self._lists += 1
        for one in objects:
            if one.uid not in self._deleted:
                self._take(one)
        for beside in before.values():
            for one in beside.values():
                if one.uid in self._unconfirmed:
                    self._take(one)
        self._unconfirmed.clear()  # what the next list lacks, too, is gone
        self._deleted &= {one.uid for one in objects}

    def shown(self, one: T, *, gone: bool) -> bool:
        """Take an event of the watch; answers with whether anything is different now."""
        self._unconfirmed.discard(one.uid)
        if gone:
            self._deleted.discard(one.uid)
            return self._remove(one.namespace, one.uid)
        return one.uid not in self._deleted and self._take(one)

    def wrote(self, one: T) -> None:
        """Take what the API server has answered to a write of ours."""
        if self._take(one):
            self._unconfirmed.add(one.uid)

    def deleted(self, namespace: str, uid: str) -> None:
        """We have deleted it."""
        if self._remove(namespace, uid):
            self._deleted.add(uid)

    def lost(self, namespace: str, uid: str) -> None:
        """The API server says that it is not there."""
        self._remove(namespace, uid)

    def _take(self, one: T) -> bool:
        beside = self._objects.setdefault(one.namespace, {})
        known = beside.get(one.name)
        if known is not None and not _newer(one.version, known.version):
            return False
        beside[one.name] = one
        self._changes[one.namespace] += 1
        return True

    def _remove(self, namespace: str, uid: str) -> bool:
        beside = self._objects.get(namespace, {})
        known = next((one for one in beside.values() if one.uid == uid), None)
        if known is None:
            return False
        del beside[known.name]
        self._changes[namespace] += 1
        return True


def _newer(version: str, known: str) -> bool:
    """Whether a resourceVersion is newer than another; of those that can't be compared the one that came last is."""
    if version.isdecimal() and known.isdecimal():
        return int(version) > int(known)
    return version != known
