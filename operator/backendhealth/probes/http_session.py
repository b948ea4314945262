"""A session of HTTP that is made when first needed, with what its connections have shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Finding
from backendhealth.core.spec.common import Tls
from backendhealth.probes.aiohttp_connector import DialerConnector, close_session, open_session
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.secrets import TlsMaterial
from backendhealth.probes.trace import Trace


class HttpSession:
    """Kept connections to one server. `load_tls` is asked for each new TLS connection."""

    def __init__(self, dialer: Dialer, tls: Tls | None, load_tls: Callable[[], Awaitable[TlsMaterial]]) -> None:
        self._dialer = dialer
        self._tls = tls
        self._load_tls = load_tls
        self._opened: tuple[DialerConnector, aiohttp.ClientSession] | None = None

    def timed_by(self, trace: Trace) -> aiohttp.ClientSession:
        """The session, whose connections are timed by `trace` from now on."""
        if self._opened is None:
            connector = DialerConnector(self._dialer, self._load_tls)
            # We unpack bodies ourselves, within bounds, if a server packs them although we don't ask for it.
            self._opened = connector, open_session(connector, auto_decompress=False)
        self._opened[0].trace = trace
        return self._opened[1]

    async def close(self) -> None:
        """Close all sockets at once."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await close_session(opened[1], opened[0])

    def check_expiry(self, finding: Finding) -> Finding:
        """`finding`, Degraded when it is healthy and the certificate ends soon."""
        not_after = self._opened[0].not_after if self._opened else None
        return check_expiry(finding, not_after, seconds((self._tls or Tls()).expiry_warning))
