"""Credentials and TLS material: what is missing or wrong is named, what is secret shows nowhere."""

from __future__ import annotations

import traceback

import pytest
from cryptography.hazmat.primitives import serialization

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Auth, Tls
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.secrets import Credentials, load_credentials, load_tls
from tests.probes.support import PLANTED, MemorySecrets
from tests.servers.certs import Authority

AUTH = Auth.model_validate({"secretRef": {"name": "db"}})
CA = Tls.model_validate({"caSecretRef": {"name": "ca"}})
CLIENT = Tls.model_validate({"certSecretRef": {"name": "client"}})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def failure(secrets: MemorySecrets, *, tls: Tls | None = None, need: tuple[str, ...] = ()) -> ProbeError:
    """The ProbeError that loading gives; it shows no planted secret, not even in its traceback."""
    with pytest.raises(ProbeError) as caught:
        await (load_credentials(secrets, AUTH, need=need) if tls is None else load_tls(secrets, tls))
    shown = "".join(traceback.format_exception(caught.value, chain=True)) + repr(caught.value)
    assert PLANTED not in shown
    return caught.value


# Credentials


async def test_without_auth_there_are_none():
    assert await load_credentials(MemorySecrets(), None) is None


async def test_the_standard_keys():
    found = await load_credentials(MemorySecrets({"db": {"username": "u", "password": "p\n", "token": "t\r\n"}}), AUTH)
    assert found is not None
    assert (found.username, found.password, found.token) == ("u", "p", "t")


async def test_only_line_ends_are_cut_off():
    found = await load_credentials(MemorySecrets({"db": {"password": " p p \t\n\n"}}), AUTH)
    assert found is not None
    assert (found.username, found.password) == ("", " p p \t")


async def test_they_are_read_anew_each_time():
    secrets = MemorySecrets({"db": {"password": "old"}})
    await load_credentials(secrets, AUTH)
    secrets.data["db"]["password"] = "new"
    found = await load_credentials(secrets, AUTH)
    assert found is not None
    assert found.password == "new"


async def test_a_secret_that_does_not_exist():
    error = await failure(MemorySecrets())
    assert error.reason is Reason.SECRET_NOT_FOUND
    assert error.message == "Secret db does not exist"


@pytest.mark.parametrize(
    ("data", "need", "told"),
    [
        ({"user": PLANTED}, (), "Secret db has none of the keys username, password and token"),
        ({"password": ""}, (), "Secret db has none of the keys"),
        ({"username": PLANTED}, ("username", "password"), "Secret db has no key password"),
        ({"password": PLANTED}, ("token",), "Secret db has no key token"),
        ({"password": PLANTED, "username": ""}, ("username",), "Secret db has no key username"),
    ],
)
async def test_a_key_that_is_missing_or_empty(data: dict[str, str], need: tuple[str, ...], told: str):
    error = await failure(MemorySecrets({"db": data}), need=need)
    assert error.reason is Reason.SECRET_KEY_MISSING
    assert told in error.message


async def test_a_value_that_is_not_utf_8():
    error = await failure(MemorySecrets({"db": {"password": PLANTED.encode() + b"\xff"}}))
    assert error.reason is Reason.SECRET_INVALID
    assert error.message == "Secret db, key password: not UTF-8"


# TLS


async def test_without_settings_the_systems_authorities():
    material = await load_tls(MemorySecrets(), None)
    assert material.context.check_hostname
    assert (material.ca, material.cert, material.key, material.server_name) == (None, None, None, None)
    assert material.expiry_warning == 336 * 3600


async def test_an_authority_and_a_client_certificate(authority: Authority):
    pair = authority.issue("client.test")
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}, "client": {"tls.crt": pair.cert, "tls.key": pair.key}})
    tls = Tls.model_validate({"caSecretRef": {"name": "ca"}, "certSecretRef": {"name": "client"}})
    material = await load_tls(secrets, tls)
    assert len(material.context.get_ca_certs()) == 1
    assert (material.ca, material.cert, material.key) == (authority.pem, pair.cert, pair.key)


async def test_only_the_given_authority_is_trusted(authority: Authority):
    material = await load_tls(MemorySecrets({"ca": {"ca.crt": authority.pem}}), CA)
    assert len(material.context.get_ca_certs()) == 1


@pytest.mark.parametrize("pem", [b"\n", PLANTED.encode(), b"-----BEGIN CERTIFICATE-----\nxyz\n", b"\xff\xfe"])
async def test_an_authority_that_is_no_certificate(pem: bytes):
    error = await failure(MemorySecrets({"ca": {"ca.crt": pem}}), tls=CA)
    assert error.reason is Reason.SECRET_INVALID
    assert error.message == "Secret ca, key ca.crt: not a PEM certificate"


@pytest.mark.parametrize(("data", "key"), [({}, "tls.crt"), ({"tls.crt": "x"}, "tls.key")])
async def test_a_client_certificate_that_lacks_a_key(data: dict[str, str], key: str):
    error = await failure(MemorySecrets({"client": data}), tls=CLIENT)
    assert error.reason is Reason.SECRET_KEY_MISSING
    assert error.message == f"Secret client has no key {key}"


async def test_no_authority_in_its_secret():
    error = await failure(MemorySecrets({"ca": {"tls.crt": PLANTED}}), tls=CA)
    assert error.reason is Reason.SECRET_KEY_MISSING
    assert error.message == "Secret ca has no key ca.crt"


def encrypted(key: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PLANTED.encode()),
    )


async def test_a_client_key_that_cannot_be_used(authority: Authority):
    pair, other = authority.issue("client.test"), authority.issue("other.test")
    for cert, key in (
        (pair.cert, other.key),
        (pair.cert, encrypted(pair.key)),
        (pair.cert, PLANTED.encode()),
        (PLANTED.encode(), pair.key),
        (pair.key, pair.cert),
    ):
        error = await failure(MemorySecrets({"client": {"tls.crt": cert, "tls.key": key}}), tls=CLIENT)
        assert error.reason is Reason.SECRET_INVALID
        assert error.message == "Secret client: tls.crt and tls.key are not a certificate with its key"


# Reprs


async def test_no_value_shows_in_a_repr(authority: Authority):
    credentials = Credentials(PLANTED, PLANTED, PLANTED)
    assert PLANTED not in f"{credentials!r} {credentials}"
    pair = authority.issue("client.test")
    secrets = MemorySecrets({"client": {"tls.crt": pair.cert, "tls.key": pair.key}})
    material = await load_tls(secrets, CLIENT)
    assert "PRIVATE KEY" not in f"{material!r} {material}"
    assert "CERTIFICATE" not in f"{material!r} {material}"
