"""Genuine Elasticsearch servers for the tests, and a proxy that gives them TLS and authentication."""

from __future__ import annotations

from tests.servers.elasticsearch.install import install
from tests.servers.elasticsearch.proxy import Answer, Proxy, Rules
from tests.servers.elasticsearch.server import Elasticsearch, ThreeNodes

__all__ = ["Answer", "Elasticsearch", "Proxy", "Rules", "ThreeNodes", "install"]
