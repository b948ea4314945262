"""The shapes of Elasticsearch's answers, as far as the probe reads them; anything else is not its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError

Colour = Literal["green", "yellow", "red"]
COLOURS: tuple[Colour, ...] = ("green", "yellow", "red")
"""From best to worst."""


class Version(BaseModel):
    """The server's version."""

    number: str


class Info(BaseModel):
    """`GET /`."""

    version: Version


class IndexHealth(BaseModel):
    """The health of one index."""

    status: Colour


class Health(BaseModel):
    """`GET _cluster/health`; `indices` is empty unless the level asks for them."""

    cluster_name: str
    status: Colour
    timed_out: bool
    number_of_nodes: int
    number_of_data_nodes: int
    active_shards: int
    unassigned_shards: int
    unassigned_primary_shards: int = 0
    indices: dict[str, IndexHealth] = {}

    @property
    def overall(self) -> Colour:
        """The worst colour; without a time-out the server's own, which is red if only an index is missing."""
        if not self.timed_out:
            return self.status
        return max((index.status for index in self.indices.values()), key=COLOURS.index, default="green")


HEALTH_FIELDS = (*(name for name in Health.model_fields if name != "indices"), "indices.*.status")


_NOT_RECOVERED = "1"


class Block(BaseModel):
    """Something that is not allowed, and why."""

    description: str
    levels: list[str] = []

    @property
    def words(self) -> str:
        """The description without the link that follows it."""
        return self.description.partition("; for more information")[0]


class Blocks(BaseModel):
    """Blocks by their number, which the server has as text: of all and of single indices."""

    everywhere: dict[str, Block] = Field(default={}, alias="global")
    indices: dict[str, dict[str, Block]] = {}


class Node(BaseModel):
    """A node of the cluster."""

    name: str


class State(BaseModel):
    """`GET _cluster/state/master_node,nodes,blocks`."""

    master_node: str | None = None
    nodes: dict[str, Node] = {}
    blocks: Blocks = Blocks()

    @property
    def master(self) -> str:
        """Name of the elected master, empty when there is none."""
        node = self.nodes.get(self.master_node or "")
        return node.name if node else ""

    @property
    def recovered(self) -> bool:
        """Whether the cluster has read its state after a start."""
        return _NOT_RECOVERED not in self.blocks.everywhere


STATE_FIELDS = ("master_node", "nodes.*.name", "blocks")


class Failure(BaseModel):
    """One shard's failure."""

    index: str | None = None
    shard: int | None = None
    reason: dict[str, Any] = {}

    @property
    def words(self) -> str:
        """Index, shard, type and reason, as far as they are told."""
        reason = " ".join(str(self.reason[key]) for key in ("type", "reason") if self.reason.get(key))
        return f"index {self.index}, shard {self.shard}: {reason}"


class Shards(BaseModel):
    """How many shards a search asked, and which of them failed."""

    total: int
    failed: int
    failures: list[Failure] = []


class Total(BaseModel):
    """The number of documents that a search found."""

    value: int


class Hits(BaseModel):
    """What a search found."""

    total: Total


class Search(BaseModel):
    """`GET INDEX/_search`."""

    shards: Shards = Field(alias="_shards")
    hits: Hits


SEARCH_FIELDS = ("_shards", "hits.total")


class Cause(BaseModel):
    """What the server says of an error."""

    type: str = ""
    reason: str | None = None
    index: str | None = None


class Error(Cause):
    """An answer's `error`; a failed search names shards."""

    failed_shards: list[Failure] = []

    @property
    def words(self) -> str:
        """The shard's failure, or the error's type and reason."""
        if self.failed_shards:
            return self.failed_shards[0].words
        return f"{self.type}: {self.reason}" if self.reason else self.type


class Index(BaseModel):
    """One index of `GET NAMES`."""

    aliases: dict[str, Any] = {}
    data_stream: str | None = None


INDEX_FIELDS = ("*.aliases", "*.data_stream")

_Shape = TypeVar("_Shape", bound=BaseModel)


def read(shape: type[_Shape], answer: object, endpoint: str) -> _Shape:
    """The answer in its shape; ProbeError (ProtocolError) when it has another, without quoting it."""
    body = getattr(answer, "body", answer)
    if isinstance(body, Mapping):
        try:
            return shape.model_validate(body)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ProbeError(Reason.PROTOCOL_ERROR, _told(endpoint, shape, where)) from None
    raise ProbeError(Reason.PROTOCOL_ERROR, _told(endpoint, shape, "the whole answer"))


def read_error(body: object) -> Error:
    """The error of an answer, empty when it has another shape."""
    try:
        return Error.model_validate(body.get("error") if isinstance(body, Mapping) else None)
    except ValidationError:
        return Error()


def _told(endpoint: str, shape: type[BaseModel], where: str) -> str:
    return f"{endpoint} gives no valid answer to the request for {shape.__name__.lower()}: {where}"
