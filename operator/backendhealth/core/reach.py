"""Where probes may connect to: the deny-list, then the allow-list, then what is refused unless it is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

from backendhealth.core.hostlist import Address, HostList, Network, address_of, plain

METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog"})
_METADATA = "a cloud's metadata service"
_SPECIAL: tuple[tuple[str, tuple[Network, ...]], ...] = tuple(
    (told, tuple(ip_network(text) for text in networks))
    for told, networks in (
        (
            _METADATA,  # AWS and most others, AWS by IPv6, Google by IPv6, Alibaba, Oracle, Azure's own
            ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        ),
        ("a loopback address", ("127.0.0.0/8", "::1")),
        ("a link-local address", ("169.254.0.0/16", "fe80::/10")),
        ("the unspecified address", ("0.0.0.0/8", "::")),  # Linux takes 0.0.0.0 for loopback
        ("the broadcast address", ("255.255.255.255",)),
        ("a multicast address", ("224.0.0.0/4", "ff00::/8")),
    )
)
"""Addresses that lead somewhere else on each machine, or that hand out credentials."""
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_LOW_32_BITS = 0xFFFF_FFFF

UNKNOWN_CLUSTER = "the addresses of the cluster's nodes aren't known yet"


class Reach:
    """Decides on each address before it is connected to.

    `allow` and `deny` are networks, addresses and names (`*.internal`); `cluster` are the addresses of nodes and API
    servers, None while they are not known. Raises ValueError that quotes an entry which can't be read.

    An allowed name lifts the ban on nodes and API servers only: what stands behind a name is for others to choose, so
    the special addresses must be allowed as addresses.
    """

    def __init__(self, allow: Iterable[str], deny: Iterable[str], cluster: frozenset[Address] | None) -> None:
        self._allow = HostList.parse(allow)
        self._deny = HostList.parse(deny)
        self._cluster = cluster

    def refusal(self, host: str, address: Address | None) -> str | None:
        """Why `host` must not be connected to at `address`, or None; without an address, by its name alone."""
        if self._deny.has_name(host):
            return "its name is on the deny-list"
        allowed_name = address_of(host) is None and self._allow.has_name(host)
        if address is None:
            return _METADATA if plain(host) in METADATA_NAMES and not allowed_name else None
        meant = embedded(address) or address
        if self._deny.has_address(address) or self._deny.has_address(meant):
            return "it is on the deny-list"
        if self._allow.has_address(meant):
            return None
        return _special(meant) or _special(address) or (None if allowed_name else self._in_cluster(meant))

    def _in_cluster(self, address: Address) -> str | None:
        if self._cluster is None:
            return UNKNOWN_CLUSTER
        return "an address of a node or of the API server" if address in self._cluster else None


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address end up at: IPv4-mapped, NAT64, 6to4, Teredo, IPv4-compatible."""
    if not isinstance(address, IPv6Address):
        return None
    found = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    compatible = int(address) <= _LOW_32_BITS and int(address) > 1  # :: and ::1 are IPv6's own
    if found is None and (compatible or any(address in network for network in _NAT64)):
        return IPv4Address(int(address) & _LOW_32_BITS)
    return found


def _special(address: Address) -> str | None:
    return next((told for told, networks in _SPECIAL if any(address in network for network in networks)), None)
