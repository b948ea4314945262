"""A Redis Cluster's map of itself: nodes, slots, and which slots belong to nobody. Pure."""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backendhealth.core.reasons import Reason
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.redis_server import WRITE_KEY

SLOTS = 16384
Ranges = tuple[tuple[int, int], ...]
"""First and last slot of each range, both included."""


@dataclass(frozen=True, slots=True)
class Node:
    """One line of CLUSTER NODES."""

    id: str
    host: str
    port: int
    flags: frozenset[str]
    slots: Ranges

    @property
    def address(self) -> str:
        """host:port."""
        return host_port(self.host, self.port)

    @property
    def known(self) -> bool:
        """Whether it can be asked: it has an address and has been met."""
        return bool(self.host) and not self.flags & {"noaddr", "handshake"}


@dataclass(frozen=True, slots=True)
class Map:
    """What one node knows of its cluster."""

    info: Mapping[str, str]
    nodes: tuple[Node, ...]
    me: Node

    @property
    def state(self) -> str:
        """`ok` or `fail`, as this node sees it."""
        return self.info.get("cluster_state", "")

    def number(self, name: str) -> int:
        """A number of CLUSTER INFO; 0 when it is not there."""
        text = self.info.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else 0


def parse_map(info: str, nodes: str, host: str, port: int) -> Map:
    """The map of the node at `host`:`port`. Raises ProbeError for what is not Redis's."""
    try:
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        parsed = tuple(_node(line.split(), host) for line in nodes.splitlines() if line)
        me = next(node for node in parsed if "myself" in node.flags)
    except (ValueError, StopIteration):
        told = f"{host_port(host, port)} answers CLUSTER NODES, but not as Redis does"
        raise ProbeError(Reason.PROTOCOL_ERROR, told) from None
    return Map(fields, parsed, me)


def _node(words: Sequence[str], host: str) -> Node:
    name, address, flags, _primary, _ping, _pong, _epoch, _link, *slots = words
    ip, port = address.partition("@")[0].rsplit(":", 1)
    ranges = []
    for slot in slots:
        if not slot.startswith("["):  # a slot on the move is still served by its owner
            first, _, last = slot.partition("-")
            ranges.append((int(first), int(last or first)))
    flagged = frozenset(flags.split(","))
    # a node that nobody has met yet does not know its own address
    return Node(name, ip or (host if "myself" in flagged else ""), int(port), flagged, tuple(ranges))


def unassigned(nodes: Iterable[Node]) -> Ranges:
    """The slots that belong to no node."""
    free = bytearray(b"\x01" * SLOTS)
    for node in nodes:
        for first, last in node.slots:
            free[first : last + 1] = bytes(last - first + 1)
    ranges, start = [], 0
    for taken, run in itertools.groupby(free):
        length = len(list(run))
        if taken:
            ranges.append((start, start + length - 1))
        start += length
    return tuple(ranges)


def show(ranges: Ranges, limit: int = 5) -> str:
    """Ranges for people, e.g. `slots 0-99, 200`."""
    shown = [f"{first}-{last}" if first != last else str(first) for first, last in ranges[:limit]]
    more = [f"{len(ranges) - limit} more ranges"] if len(ranges) > limit else []
    return f"slots {', '.join([*shown, *more])}"


def write_key_for(slots: Ranges) -> str:
    """The first of `backendhealth:probe`, `backendhealth:probe:1`, … whose slot is one of `slots`, which has some."""
    for number in itertools.count():
        key = f"{WRITE_KEY}:{number}" if number else WRITE_KEY
        slot = binascii.crc_hqx(key.encode(), 0) % SLOTS
        if any(first <= slot <= last for first, last in slots):
            return key
    raise AssertionError  # count() has no end
