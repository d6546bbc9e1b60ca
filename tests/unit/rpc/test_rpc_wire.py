"""The wire is CRI v1's, and what is generated from the .proto is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from podlite.rpc import generate
from podlite.rpc.wire import runtime_pb2

FIELDS = Path(__file__).parent / "data" / "runtime_v1.txt"

_Field = descriptor_pb2.FieldDescriptorProto


def _messages(prefix: str, message: descriptor_pb2.DescriptorProto) -> list[str]:
    name = f"{prefix}{message.name}"
    found = []
    for field in message.field:
        kind = field.type_name.lstrip(".") or _Field.Type.Name(field.type)[5:].lower()
        repeated = "repeated " if field.label == _Field.LABEL_REPEATED else ""
        found.append(f"{name}.{field.name} {field.number} {repeated}{kind}")
    for each in message.nested_type:
        found += _messages(f"{name}.", each)
    for enumeration in message.enum_type:
        found += _values(f"{name}.", enumeration)
    return found


def _values(prefix: str, enumeration: descriptor_pb2.EnumDescriptorProto) -> list[str]:
    return [f"{prefix}{enumeration.name}.{value.name} {value.number}" for value in enumeration.value]


def test_names_numbers_and_types_are_those_of_cri() -> None:
    file = descriptor_pb2.FileDescriptorProto()
    runtime_pb2.DESCRIPTOR.CopyToProto(file)
    assert file.package == "runtime.v1"
    ours = [line for message in file.message_type for line in _messages("", message)]
    ours += [line for enumeration in file.enum_type for line in _values("", enumeration)]
    for service in file.service:
        for method in service.method:
            stream = "stream " if method.server_streaming else ""
            ours.append(f"{service.name}.{method.name} {method.input_type[1:]} {stream}{method.output_type[1:]}")
    theirs = [line for line in FIELDS.read_text().splitlines() if not line.startswith("#")]
    assert sorted(ours) == theirs


def test_the_generated_module_is_that_of_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools comes with the lint extra")
    (compiled,) = descriptor_pb2.FileDescriptorSet.FromString(generate.descriptor(str(tmp_path))).file
    for message in compiled.message_type:
        _clear_json_names(message)
    generated = descriptor_pb2.FileDescriptorProto.FromString(runtime_pb2.DESCRIPTOR.serialized_pb)
    assert compiled == generated, "podlite/rpc/wire is not up to date: python -m podlite.rpc.generate"


def _clear_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """protoc puts them into descriptor sets, not into generated modules."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _clear_json_names(nested)
