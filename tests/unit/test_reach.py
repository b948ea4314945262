"""Where probes may connect to: lists, defaults, and addresses that hide another."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.hostlist import Address
from backendhealth.core.reach import UNKNOWN_CLUSTER, Reach, embedded

NODE = ip_address("10.0.0.7")
SPECIAL = [
    ("127.0.0.1", "a loopback address"),
    ("127.255.0.9", "a loopback address"),
    ("::1", "a loopback address"),
    ("169.254.1.1", "a link-local address"),
    ("fe80::1", "a link-local address"),
    ("169.254.169.254", "a cloud's metadata service"),
    ("fd00:ec2::254", "a cloud's metadata service"),
    ("100.100.100.200", "a cloud's metadata service"),
    ("0.0.0.0", "the unspecified address"),
    ("::", "the unspecified address"),
    ("224.0.0.1", "a multicast address"),
    ("ff02::1", "a multicast address"),
    ("255.255.255.255", "the broadcast address"),
]
HIDING = [
    ("::ffff:127.0.0.1", "127.0.0.1"),
    ("64:ff9b::7f00:1", "127.0.0.1"),
    ("64:ff9b:1::a9fe:a9fe", "169.254.169.254"),
    ("2002:7f00:1::", "127.0.0.1"),
    ("2002:a9fe:a9fe::1", "169.254.169.254"),
    ("::7f00:1", "127.0.0.1"),
    ("2001:0:1234::80ff:fffe", "127.0.0.1"),
]


def refusal(
    host: str,
    address: str | None,
    *,
    allow: tuple[str, ...] = (),
    deny: tuple[str, ...] = (),
    cluster: frozenset[Address] | None = frozenset({NODE}),
) -> str | None:
    return Reach(allow, deny, cluster).refusal(host, ip_address(address) if address else None)


# Defaults


@pytest.mark.parametrize(("address", "told"), SPECIAL)
def test_special_addresses_are_refused_however_they_are_named(address: str, told: str):
    assert refusal(address, address) == told
    assert refusal("db.test", address) == told


@pytest.mark.parametrize("address", ["10.0.0.8", "192.168.1.1", "8.8.8.8", "100.100.100.201", "2606:4700::1"])
def test_others_are_not(address: str):
    assert refusal("db.test", address) is None


def test_nodes_and_api_servers_are_refused():
    assert refusal("db.test", str(NODE)) == "an address of a node or of the API server"
    assert refusal("db.test", f"::ffff:{NODE}") == "an address of a node or of the API server"


def test_while_the_nodes_are_not_known_nothing_is_reached_that_is_not_allowed():
    assert refusal("db.test", "10.0.0.8", cluster=None) == UNKNOWN_CLUSTER
    assert refusal("db.test", None, cluster=None) is None  # no address, no decision yet
    assert refusal("db.test", "10.0.0.8", allow=("10.0.0.0/8",), cluster=None) is None
    assert refusal("db.test", "10.0.0.8", allow=("*.test",), cluster=None) is None
    assert refusal("db.test", "127.0.0.1", cluster=None) == "a loopback address"


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal."])
def test_a_metadata_service_is_refused_by_its_name(host: str):
    assert refusal(host, None) == "a cloud's metadata service"
    assert refusal(host, None, allow=("metadata.google.internal",)) is None


# Lists


def test_the_deny_list_wins():
    reach = Reach(("10.0.0.0/8", "*.test"), ("10.1.0.0/16", "evil.*"), frozenset())
    inside, denied = ip_address("10.2.0.1"), ip_address("10.1.0.1")
    assert reach.refusal("db.test", inside) is None
    assert reach.refusal("db.test", denied) == "it is on the deny-list"
    assert reach.refusal("evil.test", inside) == "its name is on the deny-list"
    assert reach.refusal("EVIL.Test.", None) == "its name is on the deny-list"


@pytest.mark.parametrize(("address", "_told"), SPECIAL)
def test_an_allowed_network_lifts_any_default(address: str, _told: str):
    assert refusal("db.test", address, allow=(address,)) is None


def test_an_allowed_name_lifts_what_is_about_the_cluster_only():
    assert refusal("node.test", str(NODE), allow=("node.test",)) is None
    for address, told in SPECIAL:  # whoever answers for the name could point it there
        assert refusal("node.test", address, allow=("node.test",)) == told


def test_a_name_never_allows_an_address_that_is_written_as_such():
    assert refusal(str(NODE), str(NODE), allow=("*",)) is not None


def test_a_deny_list_of_all_leaves_nothing():
    for host in ("db.test", "10.0.0.8"):
        assert refusal(host, None, deny=("*",)) is not None


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.0/33",
        "[fd00::]/8",
        "10.0.0.1/8",
        "300.1.1.1",
        "10.*",
        "http://db.test",
        "db test",
        "",
        "[*",
        "db.test:80",
    ],
)
def test_an_entry_that_cannot_be_read_is_named(entry: str):
    for allow, deny in ((("db.test", entry), ()), ((), (entry,))):
        with pytest.raises(ValueError, match="is neither a network") as caught:
            Reach(allow, deny, frozenset())
        assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("entry", ["[::1]", "::1", "::1/128"])
def test_ipv6_with_and_without_brackets(entry: str):
    assert refusal("::1", "::1", allow=(entry,)) is None


# Addresses that hide another


@pytest.mark.parametrize(("outer", "inner"), HIDING)
def test_a_hidden_address_counts(outer: str, inner: str):
    assert embedded(ip_address(outer)) == ip_address(inner)
    assert refusal("db.test", outer) == refusal("db.test", inner) is not None
    assert refusal("db.test", outer, deny=(inner,)) == "it is on the deny-list"
    assert refusal("db.test", outer, allow=(inner,)) is None


@pytest.mark.parametrize("outer", ["64:ff9b::a00:1", "2002:a00:1::"])
def test_the_outer_address_can_be_denied_but_says_nothing_about_the_inner(outer: str):
    assert refusal("db.test", outer, deny=(f"{outer}/128",)) == "it is on the deny-list"
    assert refusal("db.test", "64:ff9b::7f00:1", allow=("64:ff9b::/96",)) == "a loopback address"


@given(st.ip_addresses(v=4))
def test_every_hiding_place_of_every_address(address: Address):
    number = int(address)
    for outer in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert refusal("db.test", str(ip_address(outer.to_bytes(16)))) == refusal("db.test", str(address))
