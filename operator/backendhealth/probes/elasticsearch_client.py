"""One URL of Elasticsearch: the official client over our dialer, and what its exceptions mean."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import urlsplit

import aiohttp
import elasticsearch as es
from elastic_transport import ApiResponseMeta, BaseAsyncNode, BaseNode, HttpHeaders, NodeConfig, NodePool
from elastic_transport import SerializationError as TransportSerializationError
from elastic_transport._node import NodeApiResponse

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import ElasticsearchProbe
from backendhealth.probes.aiohttp_connector import (
    DialerConnector,
    close_session,
    open_session,
    plain_errors,
    read_at_most,
)
from backendhealth.probes.elasticsearch_answers import Error, Info, read_error
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import Credentials, load_credentials, load_tls, redacted
from backendhealth.probes.trace import Trace

MAX_ANSWER = 8 << 20  # bytes; health and blocks of ten thousand indices fit
MAX_QUOTE = 300  # characters of the server's own words in a message
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answered:
    """The head of an answer: HTTP status, content type, and whether the server says that it is Elasticsearch."""

    status: int
    kind: str
    by_elasticsearch: bool

    def __str__(self) -> str:
        return f"HTTP {self.status}" + (f", {self.kind}" if self.kind else "")


class Endpoint:
    """One URL, with the connection that is kept to it. Credentials are read anew for each new connection.

    `name` is `host:port`; `info` what the server said of itself on this connection; `answered` its latest answer.
    """

    def __init__(self, url: str, target: ElasticsearchProbe, context: Context) -> None:
        parts = urlsplit(url)
        self._scheme, self._prefix = parts.scheme, parts.path.rstrip("/")
        self._host, self._port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
        self._target, self._context = target, context
        self._connector: DialerConnector | None = None
        self._secrets: tuple[str, ...] = ()
        self._client: es.AsyncElasticsearch | None = None
        self._node_class = type("_Node", (_Node,), {"endpoint": self})
        self._session: aiohttp.ClientSession | None = None
        self.trace = Trace()
        self.name = host_port(self._host, self._port)
        self.info: Info | None = None
        self.answered = Answered(0, "", by_elasticsearch=False)

    @property
    def not_after(self) -> dt.datetime | None:
        """The end of the server's certificate, where one was verified."""
        return self._connector.not_after if self._connector else None

    async def connect(self, trace: Trace) -> es.AsyncElasticsearch:
        """The client for this attempt; a connection that has ended is left behind, and no request is made yet."""
        if self._client is None or self._connector is None or not self._connector.alive:
            await self.close()
            credentials = await load_credentials(self._context.secrets, self._target.auth)
            headers = _authorization(credentials, self._target)
            self._secrets = tuple(value for value in _secret_values(credentials, headers) if value)
            tls = partial(load_tls, self._context.secrets, self._target.tls)
            self._connector = DialerConnector(self._context.dialer, tls)
            self._session = open_session(self._connector)
            self._client = self._new_client(headers)
        self.trace = self._connector.trace = trace
        return self._client

    async def close(self) -> None:
        """Close the kept connection at once; the next attempt starts anew."""
        session, connector = self._session, self._connector
        self._session = self._connector = self._client = self.info = None
        if session is not None and connector is not None:
            await close_session(session, connector)

    def session(self) -> aiohttp.ClientSession:
        """The session of the connection in use. Raises ConnectionAbortedError when it was closed meanwhile."""
        if self._session is None:
            raise ConnectionAbortedError
        return self._session

    def quote(self, text: object) -> str:
        """The server's own words for a message: one line, cut, without what we sent as a secret."""
        return clip(redacted(str(text), self._secrets), MAX_QUOTE)

    def _new_client(self, headers: Mapping[str, str]) -> es.AsyncElasticsearch:
        node = NodeConfig(self._scheme, self._host, self._port, path_prefix=self._prefix)
        client = es.AsyncElasticsearch(
            [node],
            node_class=self._node_class,
            node_pool_class=_OneNode,
            headers=headers,
            max_retries=0,
            retry_on_status=(),
            retry_on_timeout=False,
            meta_header=False,
        )
        return client.options(ignore_status=408)  # cluster health says so when an index is missing


class _OneNode(NodePool):
    """One URL is one node: it is never put aside, and nothing is logged about that."""

    def mark_dead(self, node: BaseNode, *_: Any, **__: Any) -> None:
        """Nothing."""

    def mark_live(self, node: BaseNode) -> None:
        """Nothing."""


class _Node(BaseAsyncNode):
    """The client's way to the network: our session. Lets the dialer's errors pass as they are."""

    _CLIENT_META_HTTP_CLIENT = ("ai", aiohttp.__version__)
    endpoint: ClassVar[Endpoint]

    async def perform_request(  # type: ignore[override]  # the base is typed for the blocking one
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        *_: Any,
        **__: Any,
    ) -> NodeApiResponse:
        endpoint = self.endpoint
        sent = {**self.headers, **(headers or {}), "accept-encoding": "identity"}
        with plain_errors(endpoint.name):
            async with endpoint.session().request(
                method, self.base_url + target, data=body, headers=sent, allow_redirects=False
            ) as response:
                endpoint.trace.contact = True
                endpoint.answered = _answered(response)
                if response.status < HTTPStatus.BAD_REQUEST and not endpoint.answered.by_elasticsearch:
                    raise ProbeError(*_stranger(endpoint))  # the client checks its first answer only
                content, whole = await read_at_most(response, MAX_ANSWER)
        if not whole:
            limit = f"{MAX_ANSWER >> 20} MiB"
            raise ProbeError(Reason.PROTOCOL_ERROR, f"{endpoint.name} answers with more than {limit}: not read further")
        # warnings of deprecation are for developers, not for an operator's log
        kept = {name: value for name, value in response.headers.items() if name.lower() != "warning"}
        meta = ApiResponseMeta(
            status=response.status, http_version="1.1", headers=HttpHeaders(kept), duration=0.0, node=self.config
        )
        return NodeApiResponse(meta, content)

    async def close(self) -> None:  # type: ignore[override]
        """Nothing: the session is the endpoint's."""


def _answered(response: aiohttp.ClientResponse) -> Answered:
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    return Answered(response.status, kind, response.headers.get("X-Elastic-Product") == "Elasticsearch")


def _authorization(credentials: Credentials | None, target: ElasticsearchProbe) -> dict[str, str]:
    if credentials is None:
        return {}
    if credentials.token:
        return {"authorization": _token_header(credentials.token)}
    name = target.auth.secret_ref.name if target.auth else ""
    for key in ("username", "password"):
        if not getattr(credentials, key):
            raise ProbeError(Reason.SECRET_KEY_MISSING, f"Secret {name} has no key {key}")
    pair = f"{credentials.username}:{credentials.password}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _token_header(token: str) -> str:
    """An API key is `id:key`, plain or in base64 as the API hands it out; anything else is a bearer token."""
    if token.isascii() and token.count(":") == 1:
        return f"ApiKey {base64.b64encode(token.encode()).decode()}"
    try:
        plain = base64.b64decode(token, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return f"Bearer {token}"
    return f"ApiKey {token}" if plain.isprintable() and plain.count(":") == 1 else f"Bearer {token}"


def _secret_values(credentials: Credentials | None, headers: Mapping[str, str]) -> Iterator[str]:
    if credentials is not None:
        yield credentials.password
        yield credentials.token
        yield headers["authorization"].partition(" ")[2]


@contextlib.contextmanager
def understood(endpoint: Endpoint) -> Iterator[None]:
    """Turn the client's exceptions into ProbeError with reason and message."""
    try:
        yield
    except es.ApiError as error:
        raise ProbeError(*_api_error(endpoint, error.body)) from None
    except (es.SerializationError, TransportSerializationError):
        raise ProbeError(*_by_status(endpoint) or _stranger(endpoint)) from None


def _stranger(endpoint: Endpoint) -> tuple[Reason, str]:
    """What to say of an answer that is not Elasticsearch's, or not its protocol."""
    words = f"{endpoint.name} answers {endpoint.answered}"
    if endpoint.answered.by_elasticsearch:
        return Reason.PROTOCOL_ERROR, f"{words}, that is no JSON"
    if endpoint.answered.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Reason.PROTOCOL_ERROR, f"{words}, not from Elasticsearch: a proxy without its server?"
    return Reason.NOT_ELASTICSEARCH, f"{words}, but does not say that it is Elasticsearch"


_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: (Reason.AUTHENTICATION_FAILED, "does not accept the credentials"),
    HTTPStatus.FORBIDDEN: (Reason.PERMISSION_DENIED, "does not allow what the probe asks"),
    HTTPStatus.TOO_MANY_REQUESTS: (Reason.OVERLOADED, "turns requests away"),
}
"""What a status means whoever gives it, a proxy or the server."""


def _by_status(endpoint: Endpoint, detail: str = "") -> tuple[Reason, str] | None:
    status = endpoint.answered.status
    if status not in _BY_STATUS:
        return None
    reason, words = _BY_STATUS[HTTPStatus(status)]
    return reason, f"{endpoint.name} {words} (HTTP {status})" + (f": {detail}" if detail else "")


def _api_error(endpoint: Endpoint, body: object) -> tuple[Reason, str]:
    if not endpoint.answered.by_elasticsearch:
        return _by_status(endpoint) or _stranger(endpoint)
    status, error = endpoint.answered.status, read_error(body)
    # a refusal of credentials may repeat them
    detail = "" if status == HTTPStatus.UNAUTHORIZED else endpoint.quote(error.words)
    known = _by_type(endpoint, error, detail) or _by_status(endpoint, detail)
    if known is not None:
        return known
    if status == HTTPStatus.BAD_REQUEST:
        return Reason.QUERY_FAILED, f"{endpoint.name} refuses the request: {detail}"
    return Reason.PROTOCOL_ERROR, f"{endpoint.name} answers {endpoint.answered}, an error: {detail or 'not told which'}"


def _by_type(endpoint: Endpoint, error: Error, detail: str) -> tuple[Reason, str] | None:
    if error.type == "master_not_discovered_exception":
        return Reason.NO_MASTER, f"{endpoint.name} answers, but knows no elected master ({error.type})"
    if error.type == "index_not_found_exception":
        return Reason.INDEX_MISSING, endpoint.quote(error.reason)
    if error.type == "index_closed_exception":
        return Reason.INDEX_BLOCKED, f"index {endpoint.quote(error.index)} is closed"
    if (
        error.type == "search_phase_execution_exception"
        and endpoint.answered.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        return Reason.SHARDS_FAILED, f"the search failed on all shards: {detail}"
    return None
