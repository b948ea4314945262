"""etcd's RPC stubs and messages, from the package `etcd3`, working beside a current protobuf.

The modules that etcd3 generated long ago refuse to import today ("Descriptors cannot be created directly"), but the
serialized descriptors inside them are as good as ever. They are read from the source text, classes are built from them
with `google.protobuf`, and the result is placed where `etcd3.etcdrpc` looks for its `*_pb2`. That needs no pin, no
environment variable, and never runs etcd3's blocking client.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

_PACKAGE = "etcd3.etcdrpc"
_FILES = ("kv", "auth", "rpc")  # in the order of their imports
_SERIALIZED = re.compile(r"serialized_pb=_b\(('(?:[^'\\\n]|\\.)*')\)")
_Field = descriptor_pb2.FieldDescriptorProto
# etcd3 knows the protocol as of etcd 3.2; these came later and an older server merely leaves them out.
_LATER_FIELDS = {
    "StatusResponse": (
        ("raftAppliedIndex", 7, _Field.TYPE_UINT64, False),
        ("errors", 8, _Field.TYPE_STRING, True),
        ("dbSizeInUse", 9, _Field.TYPE_INT64, False),
        ("isLearner", 10, _Field.TYPE_BOOL, False),
        ("storageVersion", 11, _Field.TYPE_STRING, False),
        ("dbSizeQuota", 12, _Field.TYPE_INT64, False),
    ),
    "Member": (("isLearner", 5, _Field.TYPE_BOOL, False),),
    "MemberAddRequest": (("isLearner", 2, _Field.TYPE_BOOL, False),),
}


@dataclass(frozen=True, slots=True)
class Stubs:
    """The services of one channel (`grpc.aio` or blocking); each method is `(request, timeout=…, metadata=…)`."""

    kv: Any
    maintenance: Any
    auth: Any
    cluster: Any


@functools.cache
def messages() -> Any:
    """Give the module of message classes and enum values: `messages().RangeRequest(key=b"x")`.

    ImportError when the installed etcd3 is not shaped as expected.
    """
    return _load()


def stubs(channel: Any) -> Stubs:
    """Make the stubs of `channel`."""
    rpc = messages()
    return Stubs(
        kv=rpc.KVStub(channel),
        maintenance=rpc.MaintenanceStub(channel),
        auth=rpc.AuthStub(channel),
        cluster=rpc.ClusterStub(channel),
    )


def _load() -> ModuleType:
    """Build the message modules, then let etcd3's own package of stubs find them."""
    directory = _directory()
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{_PACKAGE} cannot be loaded")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    pool = descriptor_pool.DescriptorPool()  # its own: names like "kv.proto" are anybody's in the default pool
    for name in _FILES:
        described = _described(directory / f"{name}_pb2.py")
        pool.Add(described)
        module = _message_module(f"{_PACKAGE}.{name}_pb2", described, pool)
        sys.modules[module.__name__] = module
        setattr(package, f"{name}_pb2", module)  # without it, importing the stubs runs etcd3 itself with its client
    spec.loader.exec_module(package)
    return package


def _directory() -> Path:
    """Find where etcd3 keeps its stubs, without importing it."""
    spec = importlib.util.find_spec("etcd3")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package etcd3 is not installed")
    return Path(spec.submodule_search_locations[0]) / "etcdrpc"


def _described(source: Path) -> descriptor_pb2.FileDescriptorProto:
    """Read the file descriptor that the generated module `source` carries, with the later fields added."""
    found = _SERIALIZED.search(source.read_text(encoding="utf-8"))
    if found is None:
        raise ImportError(f"no serialized descriptor in {source.name} of the package etcd3")
    described = descriptor_pb2.FileDescriptorProto.FromString(ast.literal_eval(found[1]).encode("latin1"))
    for message in described.message_type:
        for name, number, kind, repeated in _LATER_FIELDS.get(message.name, ()):
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            message.field.add(name=name, number=number, type=kind, label=label)
    return described


def _message_module(
    name: str, described: descriptor_pb2.FileDescriptorProto, pool: descriptor_pool.DescriptorPool
) -> ModuleType:
    """Build what protoc would have generated for `described`: its messages, enums and enum values as attributes."""
    module = ModuleType(name)
    file = pool.FindFileByName(described.name)
    module.__dict__["DESCRIPTOR"] = file
    for message_name, descriptor in file.message_types_by_name.items():
        module.__dict__[message_name] = message_factory.GetMessageClass(descriptor)
    for enum_name, enum in file.enum_types_by_name.items():
        module.__dict__[enum_name] = enum_type_wrapper.EnumTypeWrapper(enum)
        module.__dict__.update({value.name: value.number for value in enum.values})
    return module
