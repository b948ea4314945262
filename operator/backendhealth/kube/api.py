"""JSON requests to the API server: one deadline over each, no retries of their own, two kinds of failure."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from kubernetes.aio import client, config

from backendhealth.core.observation import clip

Json = dict[str, Any]
Query = Mapping[str, str]
REQUEST_TIMEOUT = 10.0
"""Seconds."""
PAGE = 100
"""Objects in one answer to a list."""
_MAX_LINE = 8 << 20  # bytes of one event of a watch; etcd holds no object that is larger than 1.5 MiB

USER_AGENT = f"backendhealth/{version('backendhealth')}"

_GOODBYE = 0.05  # seconds that a TLS connection takes to close; aiohttp waits for none that a watch was broken off on

Observe = Callable[[str, str, int], None]
"""Told of each request: its method, what it was about (`leases`, `backendhealths/status`), the status; 0: no answer."""


class ApiError(Exception):
    """The API server said no. `reason` is its CamelCase word (Conflict, Forbidden, …), `message` its sentence."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds that the server asks to wait; 0 when it does not."""


class ApiUnavailable(Exception):  # noqa: N818 - what is said of a server
    """No answer: it can't be reached, broke the connection off or let the deadline pass. Unknown whether it acted."""


class NoCluster(Exception):  # noqa: N818 - what is said of us
    """No usable kubeconfig, and not in a pod; the message says what was tried."""


class Api:
    """The API server as one identity. Close it after use, or use it as a context."""

    def __init__(self, configuration: client.Configuration, observe: Observe | None = None) -> None:
        configuration.retries = None  # who calls knows what may be repeated
        configuration.connection_pool_maxsize = 0  # no limit: each watch holds a connection for as long as it lasts
        self._client: Any = client.ApiClient(configuration)
        self._client.user_agent = USER_AGENT
        self._observe = observe or (lambda _method, _about, _status: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def host(self) -> str:
        """URL of the API server."""
        host: str = self._client.configuration.host
        return host

    def credentials(self) -> Json:
        """What another client of the same server and identity needs, as the arguments of kopf.ConnectionInfo."""
        configuration = self._client.configuration
        if configuration.refresh_api_key_hook:
            configuration.refresh_api_key_hook(configuration)
        scheme, _, token = configuration.api_key.get("BearerToken", "").partition(" ")
        return {
            "server": configuration.host,
            "ca_path": configuration.ssl_ca_cert,
            "insecure": not configuration.verify_ssl,
            "certificate_path": configuration.cert_file,
            "private_key_path": configuration.key_file,
        } | ({"scheme": scheme.capitalize(), "token": token} if token else {})

    def connection(self) -> Json:
        """How connections to the server are made elsewhere, as arguments of aiohttp's requests."""
        rest, configuration = self._client.rest_client, self._client.configuration
        return {
            "ssl": rest.ssl_context,
            "server_hostname": configuration.tls_server_name or None,
            "proxy": rest.proxy,
            "proxy_headers": rest.proxy_headers,
        }

    async def prepared(
        self, method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """URL and headers of a request, our credentials among them."""
        _, url, sent, *_ = await self._client.param_serialize(
            method, path, query_params=list(query), header_params=dict(headers), auth_settings=["BearerToken"]
        )
        return url, sent

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await asyncio.sleep(_GOODBYE)

    async def request(  # noqa: PLR0913 - an HTTP request has that many parts
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> Json:
        """The answer's object; `headers` may impersonate. Raises ApiError or ApiUnavailable."""
        response, text = await self.exchange(method, path, query, body, content_type, headers, timeout)
        return answer(response, text)

    async def text(self, path: str, query: Query, *, headers: Mapping[str, str], timeout: float) -> bytes:
        """What is no object: a log. Ask the server for no more than fits. Raises as `request` does."""
        accepting = {"Accept": "*/*", **headers}
        response, text = await self.exchange("GET", path, query, None, "application/json", accepting, timeout)
        if response.status != HTTPStatus.OK:
            answer(response, text)
        return text

    async def exchange(  # noqa: PLR0913, PLR0917
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Any,
        content_type: str,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """The server's answer, whatever it says, and its body: see `answer`. Raises ApiUnavailable."""
        about = resource_of(path)
        try:
            async with asyncio.timeout(timeout):
                response = await self._send(method, path, query, body, content_type, headers, timeout)
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._observe(method, about, 0)
            raise ApiUnavailable(f"the API server at {self.host} does not answer: {_told(error)}") from None
        self._observe(method, about, response.status)
        return response, text

    async def pages(self, path: str, query: Query | None = None) -> AsyncIterator[tuple[list[Json], str]]:
        """The objects below `path`, some at a time, and the list's resourceVersion. Raises as `request` does."""
        token = ""
        while True:
            paging = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            page = await self.request("GET", path, query={**(query or {}), **paging})
            yield page.get("items") or [], page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def list(self, path: str, query: Query | None = None) -> tuple[list[Json], str]:
        """All objects below `path`, read in pages, and the list's resourceVersion. Raises as `request` does."""
        items: list[Json] = []
        version = ""
        async for page, version in self.pages(path, query):  # noqa: B007 - the last one is the answer
            items += page
        return items, version

    async def watch(
        self, path: str, query: Query, *, idle: float, opened: Callable[[], None] | None = None
    ) -> AsyncIterator[Json]:
        """Events of a watch as they come, until the server ends it.

        `query` holds the resourceVersion. Silence of more than `idle` seconds ends it with ApiUnavailable: ask for
        bookmarks, or for an end (`timeoutSeconds`) that comes sooner. `opened` is called when the server has taken the
        watch, which may be long before the first event. An event of type ERROR raises ApiError (410:
        list again).
        """
        about = resource_of(path)
        options = {"watch": "true", "allowWatchBookmarks": "true", **query}
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                timeout = aiohttp.ClientTimeout(total=None, sock_read=idle)
                response = await self._send("GET", path, options, None, "application/json", None, timeout)
                self._observe("WATCH", about, response.status)
                if response.status != HTTPStatus.OK:
                    answer(response, await response.read())
            if opened is not None:
                opened()
            try:
                async for line in _lines(response):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise refusal(event["object"], event["object"].get("code", 0))
                    yield event
            finally:
                response.close()  # events may still come on it: it is of no use to other requests
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._observe("WATCH", about, 0)
            raise ApiUnavailable(f"the watch of {about} broke off: {_told(error)}") from None
        finally:
            if response is not None:
                response.close()  # it may be left in the middle

    async def _send(  # noqa: PLR0913, PLR0917
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Any,
        content_type: str,
        headers: Mapping[str, str] | None,
        timeout: Any,
    ) -> aiohttp.ClientResponse:
        sent = {"Content-Type": content_type, "Accept": "application/json", **(headers or {})}
        url, sent = await self.prepared(method, path, (query or {}).items(), sent)
        given = await self._client.rest_client.request(method, url, headers=sent, body=body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = given.response
        return response


async def connect(kubeconfig: str | None, context: str | None, observe: Observe | None = None) -> Api:
    """The API server of a kubeconfig, else of the pod we run in. Raises NoCluster."""
    configuration = client.Configuration()
    load: Any = config.load_kube_config
    load_from_pod: Any = config.load_incluster_config
    told = f"{kubeconfig} is not a usable kubeconfig" if kubeconfig else "no kubeconfig, and not in a pod"
    try:
        if kubeconfig or not os.environ.get("KUBERNETES_SERVICE_HOST"):
            _check_kubeconfig(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")
            await load(kubeconfig or None, context=context, client_configuration=configuration)
        else:
            load_from_pod(configuration)
    # the client looks into whatever the file holds without asking first what it is
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoCluster(clip(f"{told}: {error}")) from None
    if not configuration.host.startswith(("https://", "http://")):
        raise NoCluster(f"{told}: its cluster has no server with https://")
    return Api(configuration, observe)


def _check_kubeconfig(paths: str) -> None:
    """Raise OSError, ValueError or TypeError for files that are missing or hold no mapping; the client chokes on them.

    The message holds nothing of what stands in a file.
    """
    files = [Path(path).expanduser() for path in paths.split(os.pathsep)]
    for file in [file for file in files if file.exists()]:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise ValueError(f"{file} is not YAML{f', see line {mark.line + 1}' if mark else ''}") from None
        if not isinstance(content, dict):
            raise TypeError(f"{file} holds no mapping")
    if not any(file.exists() for file in files):
        raise FileNotFoundError(f"{paths} does not exist")


def resource_of(path: str) -> str:
    """`backendhealths/status` of `/apis/backendhealth.dev/v1alpha1/namespaces/a/backendhealths/b/status`."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    return "/".join(parts[::2]) or "api"


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    kept = b""
    async for chunk in response.content.iter_any():
        *lines, kept = (kept + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(kept) > _MAX_LINE:
            raise aiohttp.ClientPayloadError("an event of the watch is too long")


def answer(response: aiohttp.ClientResponse, text: bytes) -> Json:
    """The object that the server answered with. Raises ApiError for a refusal, ApiUnavailable."""
    try:
        told = json.loads(text) if text else {}
    except ValueError:
        told = {}
    except RecursionError:
        raise ApiUnavailable("the API server's answer is nested too deep to be read") from None
    told = told if isinstance(told, dict) else {}
    if response.status >= HTTPStatus.BAD_REQUEST:
        wait = response.headers.get("Retry-After", "")
        raise refusal(told, response.status, float(wait) if wait.isdecimal() else 0.0)
    return told


def refusal(told: Json, status: int, retry_after: float = 0.0) -> ApiError:
    """What the server's answer, an object of kind Status, says."""
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "unknown status"
    return ApiError(status, told.get("reason") or phrase.replace(" ", ""), told.get("message") or phrase, retry_after)


def _told(error: BaseException) -> str:
    return "the deadline passed" if isinstance(error, TimeoutError) else f"{type(error).__name__} {error}".strip()
