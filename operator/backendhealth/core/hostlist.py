"""Lists of hosts as people write them: networks, addresses, and names with `*`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"(?=.*[a-z])[a-z0-9*?._-]+|\*")
"""A letter at least: `10.*` would match the name 10.evil.example, which resolves to whatever its owner likes."""


def plain(host: str) -> str:
    """`host` as it is compared: lower-case, without brackets, zone and the dot at the end."""
    bare = host[1:-1] if host[:1] + host[-1:] == "[]" else host
    return bare.partition("%")[0].rstrip(".").lower()


def address_of(host: str) -> Address | None:
    """The address that `host` is, None when it is a name."""
    try:
        return ipaddress.ip_address(plain(host))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class HostList:
    """Networks and patterns of names; `*` in a name stands for any characters, dots included."""

    networks: tuple[Network, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """The list of `entries`. Raises ValueError that quotes the entry which is neither."""
        networks: list[Network] = []
        names: list[str] = []
        for entry in entries:
            network = network_of(entry)
            if network is not None:
                networks.append(network)
            elif _NAME.fullmatch(plain(entry)):
                names.append(plain(entry))
            else:
                raise ValueError(f"{entry!r} is neither a network (10.0.0.0/8), an address nor a name (*.db.svc)")
        return cls(tuple(networks), tuple(names))

    def has_name(self, host: str) -> bool:
        """Whether a pattern matches the text of `host`."""
        return any(fnmatchcase(plain(host), name) for name in self.names)

    def has_address(self, address: Address) -> bool:
        """Whether a network holds `address`."""
        return any(address in network for network in self.networks)


def network_of(entry: str) -> Network | None:
    """The network that `entry` writes, one of a single address for an address; None when it writes none."""
    try:
        return ipaddress.ip_network(entry[1:-1] if entry[:1] + entry[-1:] == "[]" else entry)
    except ValueError:
        return None
