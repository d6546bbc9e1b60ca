"""Between the seam's typed objects (`podlite.cri`) and the messages of the wire.

Both sides have CRI's names, so the translation follows from the two types: for each field a converter is found
once, at first use. What differs is said here in tables. On the wire a number that can be absent is a message of
its own, and some fields lie deeper; at the seam they are `int | None`, and direct.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import FieldDescriptor

from podlite.cri import types as cri
from podlite.cri.errors import InvalidArgumentError
from podlite.cri.types import Message
from podlite.rpc.signals import signal_name, signal_number
from podlite.rpc.wire import runtime_pb2 as wire

M = TypeVar("M", bound=Message)

# Seam type → the wire's message, where the names differ.
_NAMES = {
    "ContainerEvent": "ContainerEventResponse",
    "ExecSyncResult": "ExecSyncResponse",
    "RuntimeConfiguration": "RuntimeConfigResponse",
    "RuntimeStatus": "StatusResponse",
}

# Where on the wire a field of the seam is, if not in the message itself under its own name.
_PATHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("ContainerStatus", "resources"): ("resources", "linux"),
    ("ContainerStatus", "user"): ("user", "linux"),
    ("FilesystemUsage", "mountpoint"): ("fs_id", "mountpoint"),
    ("PodSandboxStatus", "namespaces"): ("linux", "namespaces", "options"),
    ("RuntimeHandler", "recursive_read_only_mounts"): ("features", "recursive_read_only_mounts"),
    ("RuntimeHandler", "user_namespaces"): ("features", "user_namespaces"),
    ("RuntimeStatus", "conditions"): ("status", "conditions"),
    ("RuntimeStatus", "supplemental_groups_policy"): ("features", "supplemental_groups_policy"),
    ("RuntimeStatus", "user_namespaces_host_network"): ("features", "user_namespaces_host_network"),
}

# What the wire carries beside the status, not in it.
_ABSENT = {("ContainerStatus", "info"), ("Image", "info"), ("PodSandboxStatus", "info")}

Convert = Callable[[Any], Any]


class _Field:
    """One field: how its value goes to the wire and comes back. `always` is for what can be absent or zero."""

    __slots__ = ("always", "from_wire", "name", "path", "required", "to_wire")

    def __init__(self, name: str, path: tuple[str, ...], to_wire: Convert | None, from_wire: Convert) -> None:
        self.name = name
        self.path = path
        self.to_wire = to_wire
        self.from_wire = from_wire
        self.always = False
        self.required = False


class _Translation:
    """The two directions for one type of the seam."""

    def __init__(self, seam: type[Message]) -> None:
        self.seam = seam
        self.message: Any = getattr(wire, _NAMES.get(seam.__name__, seam.__name__))
        hints = typing.get_type_hints(seam)
        defaults = msgspec.structs.fields(seam)
        self.fields: list[_Field] = []
        # By the name of the wire's own field; several of the seam's may lie in one.
        self.by_name: dict[str, list[_Field]] = {}
        for info in defaults:
            if (seam.__name__, info.name) in _ABSENT:
                continue
            field = self._field(info.name, hints[info.name])
            field.required = info.required
            self.fields.append(field)
            self.by_name.setdefault(field.path[0], []).append(field)

    def _field(self, name: str, hint: Any) -> _Field:
        path = _PATHS.get((self.seam.__name__, name), (name,))
        descriptor: Any = self.message.DESCRIPTOR
        for step in path[:-1]:
            descriptor = descriptor.fields_by_name[step].message_type
        wire_field = descriptor.fields_by_name[path[-1]]
        optional, hint = _without_none(hint)
        to_wire, from_wire = _converters(hint, wire_field)
        field = _Field(name, path, to_wire, from_wire)
        field.always = optional
        return field

    def to_dict(self, value: Any) -> dict[str, Any]:
        """What the wire's constructor takes; what is absent or zero is left out."""
        result: dict[str, Any] = {}
        for field in self.fields:
            item = getattr(value, field.name)
            if item is None or not (item or field.always):
                continue
            if field.to_wire is not None:
                item = field.to_wire(item)
            target = result
            for step in field.path[:-1]:
                target = target.setdefault(step, {})
            target[field.path[-1]] = item
        return result

    def from_message(self, message: Any) -> Any:
        """Raises InvalidArgumentError for a required part that is missing, or a value that the seam does not know."""
        values: dict[str, Any] = {}
        for descriptor, item in message.ListFields():
            for field in self.by_name.get(descriptor.name, ()):
                if len(field.path) == 1:
                    values[field.name] = field.from_wire(item)
                else:
                    values[field.name] = _below(item, field)
        for field in self.fields:
            if field.required and field.name not in values:
                item = getattr(message, field.path[0])
                if isinstance(item, str | int):
                    values[field.name] = field.from_wire(item)  # zero, which the wire leaves out
                else:
                    raise InvalidArgumentError(f"the request's {self.message.DESCRIPTOR.name} has no {field.name}")
        return self.seam(**values)


def _below(item: Any, field: _Field) -> Any:
    for step in field.path[1:-1]:
        if not item.HasField(step):
            return None
        item = getattr(item, step)
    last = field.path[-1]
    if field.always and not item.HasField(last):
        return None
    return field.from_wire(getattr(item, last))


def _without_none(hint: Any) -> tuple[bool, Any]:
    """(whether None is possible, the type without it)."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        others = [each for each in typing.get_args(hint) if each is not type(None)]
        return True, others[0]
    return False, hint


def _converters(hint: Any, field: FieldDescriptor) -> tuple[Convert | None, Convert]:
    """How a field's value is converted; None for what the wire takes as it is."""
    origin = typing.get_origin(hint)
    if origin is dict:
        return None, dict
    if origin is list:
        (item,) = typing.get_args(hint)
        if isinstance(item, type) and issubclass(item, Message):
            each = translation(item)
            return _each(each.to_dict), _each(each.from_message)
        if field.message_type is not None:
            inner = field.message_type.fields[0].name
            return _each(lambda value: {inner: value}), _each(lambda message: getattr(message, inner))
        return None, list
    if isinstance(hint, type) and issubclass(hint, Message):
        one = translation(hint)
        return one.to_dict, one.from_message
    if field.enum_type is not None and hint is str:
        return signal_number, signal_name
    if field.message_type is not None:
        # Int64Value, PodSandboxStateValue …: a message around one number.
        inner = field.message_type.fields[0].name
        read = _enumeration(hint, inner) if issubclass(hint, IntEnum) else lambda value: value
        return (lambda value: {inner: int(value)}), (lambda message: read(getattr(message, inner)))
    if issubclass(hint, IntEnum):
        return int, _enumeration(hint, field.name)
    return None, lambda value: value


def _each(convert: Convert) -> Convert:
    return lambda items: [convert(item) for item in items]


def _enumeration(enumeration: type[IntEnum], name: str) -> Convert:
    members: dict[int, IntEnum] = {int(member): member for member in enumeration}

    def convert(value: int) -> IntEnum:
        try:
            return members[value]
        except KeyError:
            raise InvalidArgumentError(f"{value} is no {name} that podlite knows") from None

    return convert


_translations: dict[type[Message], _Translation] = {}


def translation(seam: type[Message]) -> _Translation:
    """The translation of one type, made at first use."""
    found = _translations.get(seam)
    if found is None:
        found = _translations[seam] = _Translation(seam)
    return found


def to_dict(value: Message) -> dict[str, Any]:
    """The fields of the wire's message, as its constructor takes them."""
    return translation(type(value)).to_dict(value)


def to_wire(value: Message) -> Any:
    """The wire's message."""
    found = translation(type(value))
    return found.message(**found.to_dict(value))


def from_wire(seam: type[M], message: Any) -> M:
    """The seam's object. Raises InvalidArgumentError for what it cannot express."""
    result = translation(seam).from_message(message)
    assert isinstance(result, seam)
    return result


def resources(message: Any) -> cri.LinuxContainerResources:
    """A request's resources, all of them unspecified if it has none."""
    return from_wire(cri.LinuxContainerResources, message)
