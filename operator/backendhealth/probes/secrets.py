"""Credentials and TLS material from Secrets, with the standard keys; values never show in a repr or a message."""

from __future__ import annotations

import functools
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backendhealth.core.durations import seconds
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Auth, Tls
from backendhealth.probes.exchange import ProbeError


class Secrets(Protocol):
    """Reads Secrets of one namespace under one identity."""

    async def read(self, name: str) -> Mapping[str, bytes]:
        """The Secret's data. Raises ProbeError (SecretNotFound and the like)."""
        ...


class LiveSecrets(Secrets, Protocol):
    """Secrets that are watched while a connection made with them is kept."""

    async def changed(self) -> bool:
        """Whether a Secret that was read since `release` has changed or may not be read any more."""
        ...

    def distrust(self) -> None:
        """The backend refused what was read: read anew next time."""
        ...

    def release(self) -> None:
        """No connection is kept: what was read so far is in use no longer."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a backend asks for; empty strings where the Secret has no such key."""

    username: str = field(repr=False, default="")
    password: str = field(repr=False, default="")
    token: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """An SSL context, the name to verify, the PEM texts for clients that want them, and the warning time in seconds."""

    context: ssl.SSLContext = field(repr=False)
    server_name: str | None
    expiry_warning: float
    ca: bytes | None = field(repr=False, default=None)
    cert: bytes | None = field(repr=False, default=None)
    key: bytes | None = field(repr=False, default=None)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "•••")
    return text


async def load_credentials(secrets: Secrets, auth: Auth | None, *, need: tuple[str, ...] = ()) -> Credentials | None:
    """Credentials of `auth`, or None without it. Raises ProbeError when one of the keys in `need` is missing."""
    if auth is None:
        return None
    name = auth.secret_ref.name
    data = await secrets.read(name)
    for key in need:
        _required(data, name, key)
    if not any(data.get(key) for key in ("username", "password", "token")):
        raise ProbeError(Reason.SECRET_KEY_MISSING, f"Secret {name} has none of the keys username, password and token")
    return Credentials(*(_text(data, name, key) for key in ("username", "password", "token")))


async def load_tls(secrets: Secrets, tls: Tls | None) -> TlsMaterial:
    """The TLS settings of `tls`; the system's authorities without it. Raises ProbeError for what can't be used."""
    tls = tls or Tls()
    ca = cert = key = None
    if tls.ca_secret_ref:
        ca = _required(await secrets.read(tls.ca_secret_ref.name), tls.ca_secret_ref.name, "ca.crt")
    if tls.cert_secret_ref:
        name = tls.cert_secret_ref.name
        data = await secrets.read(name)
        cert, key = _required(data, name, "tls.crt"), _required(data, name, "tls.key")
    context = _context(tls, ca, cert, key)
    return TlsMaterial(context, tls.server_name, seconds(tls.expiry_warning), ca, cert, key)


def _required(data: Mapping[str, bytes], name: str, key: str) -> bytes:
    value = data.get(key)
    if not value:
        raise ProbeError(Reason.SECRET_KEY_MISSING, f"Secret {name} has no key {key}")
    return value


def _text(data: Mapping[str, bytes], name: str, key: str) -> str:
    try:
        return data.get(key, b"").decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ProbeError(Reason.SECRET_INVALID, f"Secret {name}, key {key}: not UTF-8") from None


def _context(tls: Tls, ca: bytes | None, cert: bytes | None, key: bytes | None) -> ssl.SSLContext:
    if not tls.insecure_skip_verify and ca is None and cert is None:
        return system_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError):
            name = tls.ca_secret_ref.name if tls.ca_secret_ref else ""
            raise ProbeError(Reason.SECRET_INVALID, f"Secret {name}, key ca.crt: not a PEM certificate") from None
    if cert is not None and key is not None:
        _load_chain(context, tls.cert_secret_ref.name if tls.cert_secret_ref else "", cert, key)
    return context


@functools.cache
def system_context() -> ssl.SSLContext:
    """The system's authorities, loaded once: that takes 20 ms, during which nothing else is probed."""
    return ssl.create_default_context()


def _load_chain(context: ssl.SSLContext, name: str, cert: bytes, key: bytes) -> None:
    with _as_file(cert) as cert_file, _as_file(key) as key_file:
        try:
            # without the empty password OpenSSL asks on the terminal for an encrypted key's
            context.load_cert_chain(cert_file, key_file, password="")
        except (ssl.SSLError, ValueError):
            raise ProbeError(
                Reason.SECRET_INVALID, f"Secret {name}: tls.crt and tls.key are not a certificate with its key"
            ) from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to read `content` from: in memory on Linux, since the ssl module takes files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pem"
        path.touch(mode=0o600)
        path.write_bytes(content)
        yield str(path)
