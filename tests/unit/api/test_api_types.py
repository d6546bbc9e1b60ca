"""The types against the list of fields that was extracted from the Go sources."""

from __future__ import annotations

from typing import Any

import pytest
from api_cases import data_lines

from podlite.api import registry
from podlite.api.base import Object, wire_name
from podlite.api.decode import type_named

GO: dict[str, dict[str, tuple[str, list[str]]]] = {}
for line in data_lines("types_v1.txt"):
    kind, field, go_type, *options = line.split(" ")
    GO.setdefault(kind, {})[field] = (go_type, options[0].split(",") if options else [])

SCALARS = {
    "string": "str",
    "bool": "bool",
    "int32": "Int32",
    "int64": "int",
    "Time": "Time",
    "MicroTime": "MicroTime",
    "Quantity": "Quantity",
    "IntOrString": "IntOrString",
    "[]byte": "bytes",
    "RawExtension": "Any",
    "FieldsV1": "Any",
}
# kept as they come, for nothing here acts on them
UNTYPED = {
    f"{kind}Status" for kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "PersistentVolumeClaim")
}


def annotation(kind: type[Object], attribute: str) -> str:
    for base in kind.__mro__:
        found: str | None = getattr(base, "__annotations__", {}).get(attribute)
        if found is not None:
            return found
    raise LookupError(attribute)


def python_type(go: str) -> str:
    go = go.removeprefix("*")
    if go in SCALARS:
        return SCALARS[go]
    if go.startswith("[]"):
        return f"list[{python_type(go[2:])}]"
    if go.startswith("map[string]"):
        return f"dict[str, {python_type(go.removeprefix('map[string]'))}]"
    return "Any" if go in UNTYPED else go


def test_the_registry_knows_every_type_of_the_list() -> None:
    assert set(registry.names()) == set(GO)
    with pytest.raises(LookupError):
        registry.find("Service")


@pytest.mark.parametrize("name", sorted(GO))
def test_fields_and_their_types(name: str) -> None:
    kind = registry.find(name)
    assert kind.__name__ == name
    assert set(kind.__struct_encode_fields__) == set(GO[name])
    for attribute, wire in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        go, options = GO[name][wire]
        declared = annotation(kind, attribute)
        time_or_any = go in ("Time", "MicroTime", "RawExtension", "FieldsV1") or go in UNTYPED
        optional = go.startswith("*") or time_or_any
        assert declared == python_type(go) + (" | None" if optional else ""), f"{name}.{wire}"
        assert wire_name(attribute) == wire
        if not optional and go in GO:
            assert type_named(declared, kind.__module__) is registry.find(go)
        _check_default(kind, attribute, go, options)


def _check_default(kind: type[Object], attribute: str, go: str, options: list[str]) -> None:
    """A field is printed while it is unset if, and only if, Go prints it: no omitempty, or a struct with it."""
    empty: Any = kind()
    value = getattr(empty, attribute)
    if attribute in ("kind", "api_version") and value:
        return  # ours, and always printed
    struct = go in GO or go in ("Time", "MicroTime", "Quantity", "IntOrString")
    printed = "omitzero" not in options and ("omitempty" not in options or struct)
    if go in UNTYPED:
        printed = False
    if go == "RawExtension":
        return
    import msgspec

    assert (wire_name(attribute) in msgspec.to_builtins(empty)) == printed, f"{kind.__name__}.{attribute}"


def test_unset_differs_from_zero() -> None:
    from podlite.api.pod import PodSpec

    assert PodSpec().termination_grace_period_seconds is None
    assert PodSpec(termination_grace_period_seconds=0) != PodSpec()
    assert PodSpec().volumes == []
    assert PodSpec().volumes is not PodSpec().volumes


@pytest.mark.parametrize(
    ("attribute", "wire"),
    [
        ("pod_ip", "podIP"),
        ("pod_ips", "podIPs"),
        ("host_pid", "hostPID"),
        ("host_ipc", "hostIPC"),
        ("container_id", "containerID"),
        ("set_hostname_as_fqdn", "setHostnameAsFQDN"),
        ("api_version", "apiVersion"),
        ("downward_api", "downwardAPI"),
        ("disk_uri", "diskURI"),
        ("se_linux_options", "seLinuxOptions"),
        ("name", "name"),
        ("continue_", "continue"),
    ],
)
def test_wire_names(attribute: str, wire: str) -> None:
    assert wire_name(attribute) == wire
