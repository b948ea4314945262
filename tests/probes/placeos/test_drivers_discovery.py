"""Where cores register, read over TLS and as users with few rights: real etcd, real Redis."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import CoreDiscovery
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.drivers_discovery import Registry
from backendhealth.probes.drivers_nodes import Node
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import BY_KEY, OK, PLANTED, SKIPPED, secrets, told
from tests.probes.support import MemorySecrets
from tests.servers.certs import Authority, Pair
from tests.servers.etcd import Cluster, Member, Options, Tls, admin, enable_auth, put
from tests.servers.http import HttpServer
from tests.servers.placeos.discovery import _b64
from tests.servers.process import free_port
from tests.servers.redis import RedisServer

CLUSTER = "/api/engine/v2/cluster"
HERE, DEAD = "01J00000000000000000000001", "01J00000000000000000000002"
URI = "http://core-0.core:3000"
BOTH = {"caSecretRef": {"name": "ca"}, "certSecretRef": {"name": "client"}}
LOOKUP, FIELD = "{service_core}_lookup", "{service_core}." + HERE


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("probe")


@pytest.fixture(scope="module")
def encrypted(authority: Authority, client: Pair) -> Iterator[Member]:
    """One that wants a client certificate; a core is registered in it."""
    with Cluster(1, Options(tls=Tls(authority.issue(), authority.file))) as cluster:
        register(cluster.members[0], HERE, URI, authority, client)
        yield cluster.members[0]


@pytest.fixture
def known(authority: Authority, client: Pair, tmp_path_factory: pytest.TempPathFactory) -> MemorySecrets:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    found = secrets()
    found.data |= {"ca": {"ca.crt": authority.pem}, "other-ca": {"ca.crt": stranger.pem}}
    pairs = {"client": client, "other-client": stranger.issue("x"), "old-client": authority.issue("x", days=-1)}
    found.data |= {name: {"tls.crt": pair.cert, "tls.key": pair.key} for name, pair in pairs.items()}
    return found


def register(member: Member, node: str, uri: str, authority: Authority, client: Pair) -> str:
    """As core does: under a lease, whose ID is given back."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(client.cert_file, client.key_file)

    def call(path: str, body: dict[str, object]) -> dict[str, str]:
        request = urllib.request.Request(f"{member.url}/v3/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            found: dict[str, str] = json.load(answer)
            return found

    lease = call("lease/grant", {"TTL": 600})["ID"]
    call("kv/put", {"key": _b64(f"service/core/{node}"), "value": _b64(uri), "lease": lease})
    return lease


def api(server: HttpServer) -> dict[str, object]:
    """An API that shows one core without a driver; what it is asked of."""
    server.on(f"{CLUSTER}?include_status=true", body=json.dumps([{"id": HERE, "uri": URI, "status": {}}]).encode())
    server.on(f"{CLUSTER}/{HERE}?include_status=true", body=b"[]")
    return {"url": server.url, **BY_KEY}


async def seen(make: Make, server: HttpServer, known: MemorySecrets, **discovery: object) -> Finding:
    """What one attempt finds of cores."""
    finding = await make("drivers", {**api(server), "discovery": discovery}, known).attempt()
    assert finding.reason is OK, "the drivers are not to blame"
    return finding.parts["component/core"]


def in_etcd(member: Member, **tls: object) -> dict[str, object]:
    return {"endpoints": [member.url], "tls": {**BOTH, **tls}}


async def test_over_tls_with_a_client_certificate(
    make: Make, server: HttpServer, known: MemorySecrets, encrypted: Member, *, authority: Authority, client: Pair
) -> None:
    found = await seen(make, server, known, etcd=in_etcd(encrypted))
    assert (found.reason, found.message) == (OK, "1 core is registered")
    lease = register(encrypted, DEAD, "http://core-1.core:3000", authority, client)
    found = await seen(make, server, known, etcd=in_etcd(encrypted))
    assert found.reason is Reason.STALE_PLACEMENT, "it is etcd that tells, not the API"
    assert f"{DEAD} (http://core-1.core:3000)" in found.message
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(client.cert_file, client.key_file)
    revoke = urllib.request.Request(f"{encrypted.url}/v3/lease/revoke", json.dumps({"ID": lease}).encode())
    urllib.request.urlopen(revoke, timeout=10, context=context).close()
    assert (await seen(make, server, known, etcd=in_etcd(encrypted))).reason is OK


async def test_the_next_member_is_asked_when_the_first_does_not_answer(
    make: Make, server: HttpServer, known: MemorySecrets, encrypted: Member
) -> None:
    dead = f"https://127.0.0.1:{free_port()}"
    found = await seen(make, server, known, etcd={"endpoints": [dead, encrypted.url], "tls": BOTH})
    assert (found.reason, found.message) == (OK, "1 core is registered")


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        ({"certSecretRef": None}, "the server asks for a client certificate"),
        ({"certSecretRef": {"name": "other-client"}}, "the server asks for a client certificate that it accepts"),
        ({"certSecretRef": {"name": "old-client"}}, "the server asks for a client certificate that it accepts"),
        ({"caSecretRef": {"name": "other-ca"}}, "the server's certificate is not accepted: "),
        ({"serverName": "elsewhere.example"}, "the server's certificate is not accepted: "),
    ],
)
async def test_tls_that_fails_is_told_beside_what_the_api_shows(
    make: Make, server: HttpServer, known: MemorySecrets, encrypted: Member, *, tls: dict[str, object], why: str
) -> None:
    given = {name: one for name, one in {**BOTH, **tls}.items() if one is not None}
    etcd = {"endpoints": [encrypted.url], "tls": given}
    found = await seen(make, server, known, etcd=etcd)
    assert found.reason is OK
    assert found.message.startswith(f"1 core is registered; by the API alone: discovery: {why}")
    server.on(f"{CLUSTER}?include_status=true", 500)
    finding = await make("drivers", {"url": server.url, **BY_KEY, "discovery": {"etcd": etcd}}, known).attempt()
    core = finding.parts["component/core"]
    assert core.reason is SKIPPED
    assert f"which cores are registered is not known: discovery: {why}" in core.message
    assert "PRIVATE KEY" not in told(finding)


async def test_a_port_that_speaks_tls_and_one_that_does_not(
    make: Make, server: HttpServer, known: MemorySecrets, encrypted: Member
) -> None:
    plain = encrypted.url.replace("https", "http")
    assert "by the API alone: " in (await seen(make, server, known, etcd={"endpoints": [plain]})).message
    secure = server.url.replace("http", "https")
    found = await seen(make, server, known, etcd={"endpoints": [secure], "tls": BOTH})
    assert found.message.endswith("discovery: the port does not speak TLS")


async def test_a_server_certificate_that_has_expired(
    make: Make, server: HttpServer, known: MemorySecrets, authority: Authority
) -> None:
    with Cluster(1, Options(tls=Tls(authority.issue(days=-1)))) as cluster:
        found = await seen(make, server, known, etcd=in_etcd(cluster.members[0]))
    assert found.message.endswith("discovery: the server's certificate has expired")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("client", None, Reason.SECRET_NOT_FOUND),
        ("ca", {"other": "x"}, Reason.SECRET_KEY_MISSING),
        ("ca", {"ca.crt": "no certificate"}, Reason.SECRET_INVALID),
    ],
)
async def test_a_secret_that_is_of_no_use_is_our_own_fault(
    make: Make,
    server: HttpServer,
    known: MemorySecrets,
    encrypted: Member,
    *,
    name: str,
    data: dict[str, str | bytes] | None,
    reason: Reason,
) -> None:
    del known.data[name]
    if data is not None:
        known.data[name] = data
    found = await seen(make, server, known, etcd=in_etcd(encrypted))
    assert (found.reason, found.verdict) == (reason, Verdict.UNKNOWN)


# As users with few rights


async def test_an_etcd_user_who_may_not_read_the_keys(make: Make, server: HttpServer) -> None:
    known = secrets()
    known.data["etcd"] = {"username": "prober", "password": PLANTED[0]}
    auth = {"secretRef": {"name": "etcd"}}
    for prefix, reason in (("elsewhere/", Reason.PERMISSION_DENIED), ("service/core/", Reason.STALE_PLACEMENT)):
        with Cluster() as cluster:
            member = cluster.members[0]
            put(member, f"service/core/{HERE}", URI.encode())  # without a lease
            with admin(member) as stubs:
                enable_auth(stubs, root_password="root", user="prober", password=PLANTED[0], prefix=prefix)
            found = await seen(make, server, known, etcd={"endpoints": [member.url], "auth": auth})
            assert found.reason is reason, found
    assert Reason.PERMISSION_DENIED.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("rights", "reason"),
    [
        ("+@all", OK),
        ("+@all -exists", Reason.PERMISSION_DENIED),
        ("+@all -hgetall", Reason.PERMISSION_DENIED),
        ("+@all resetkeys ~elsewhere", Reason.PERMISSION_DENIED),
    ],
)
async def test_a_redis_user_who_may_not_read_all(make: Make, server: HttpServer, rights: str, reason: Reason) -> None:
    """That a key can't be asked for is no sign of a dead core."""
    known = secrets()
    known.data["redis"] = {"username": "prober", "password": "a-password"}
    with RedisServer(users=[f"prober on >a-password ~* {rights}"]) as redis:
        redis.execute("HSET", LOOKUP, FIELD, URI)
        redis.execute("SET", FIELD, "{}", "EX", "60")
        url = {"url": f"redis://{redis.address}", "auth": {"secretRef": {"name": "redis"}}}
        found = await seen(make, server, known, redis=url)
    assert found.reason is reason, found
    if reason is not OK:
        assert found.verdict is Verdict.UNKNOWN
        assert "grant +hgetall +exists on ~{service_core}*" in found.message


# What the registry itself raises: an attempt tells only that nothing is known


async def nodes(**discovery: object) -> list[Node]:
    registry = Registry(CoreDiscovery.model_validate(discovery), Context(Dialer(), MemorySecrets()))
    try:
        return await registry.nodes(Trace())
    finally:
        await registry.close()


@pytest.mark.parametrize("status", [400, 401, 500, 503])
async def test_an_etcd_that_refuses(server: HttpServer, status: int) -> None:
    server.on("/v3/kv/range", status, b'{"error": "etcdserver: no leader"}')
    with pytest.raises(ProbeError, match="does not tell the cores") as refused:
        await nodes(etcd={"endpoints": [server.url]})
    assert refused.value.reason is Reason.REQUEST_FAILED
    assert "etcdserver: no leader" in refused.value.message


@pytest.mark.parametrize(
    "body", ["<html>", "[]", '{"kvs": ""}', '{"kvs": {}}', '{"kvs": [5]}', '{"kvs": [{"key": "?"}]}']
)
async def test_what_is_no_etcd(server: HttpServer, body: str) -> None:
    server.on("/v3/kv/range", body=body.encode())
    with pytest.raises(ProbeError) as refused:
        await nodes(etcd={"endpoints": [server.url]})
    assert refused.value.reason is Reason.PROTOCOL_ERROR


async def test_a_redis_whose_lookup_is_none() -> None:
    with RedisServer() as redis:
        where = {"url": f"redis://{redis.address}"}
        assert await nodes(redis=where) == []
        redis.execute("HSET", LOOKUP, FIELD, URI)
        assert await nodes(redis=where) == [Node(HERE, URI, expires=False)]
        redis.execute("SET", LOOKUP, "no hash")
        with pytest.raises(ProbeError, match="WRONGTYPE") as refused:
            await nodes(redis=where)
    assert refused.value.reason is Reason.REQUEST_FAILED
