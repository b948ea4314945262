"""Certificates for tests: a private authority, server and client pairs, and ones that are expired or about to be."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, as PEM and as files."""

    cert: bytes
    key: bytes
    cert_file: Path
    key_file: Path


class Authority:
    """A certificate authority of the test's own; files live below `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self._directory = directory
        self._serial = 0
        self.pem: bytes = self._ca.cert_pem.bytes()
        self.file = directory / "ca.crt"
        self.file.write_bytes(self.pem)

    def issue(self, *names: str, days: float | None = None) -> Pair:
        """A pair for `names` (default: localhost and the loopback addresses), valid for `days` more days.

        A negative number of days gives one that is expired already.
        """
        not_after = None if days is None else dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        not_before = None if not_after is None else not_after - dt.timedelta(days=90)
        issued = self._ca.issue_cert(
            *(names or ("localhost", "127.0.0.1", "::1")), not_after=not_after, not_before=not_before
        )
        self._serial += 1
        cert = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes()
        cert_file = self._directory / f"{self._serial}.crt"
        key_file = self._directory / f"{self._serial}.key"
        cert_file.write_bytes(cert)
        key_file.write_bytes(key)
        key_file.chmod(0o600)
        return Pair(cert, key, cert_file, key_file)
