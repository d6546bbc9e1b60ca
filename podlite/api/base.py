"""What the API types are made of: the base class, the scalar types, and how names are spelt on the wire.

Every type of `podlite.api` is an `Object`. Attributes are snake_case; `wire_name` gives the JSON name.
Optional pointers of the Go API are `T | None`, so that unset differs from zero; lists and maps are
empty when absent. A field that the API server prints even when it is empty has a `default_factory`
(msgspec leaves out a field that *is* its default; what a factory made never is, save an empty list, map
or set), the others a plain default.

Importing a module that defines types costs about 16 µs for each of them, so the rarer ones have modules of
their own, named in annotations only; `podlite.api.registry` finds them when they are first needed.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

# The annotations that mean more than their Python type: `podlite.api.decode` reads them.
Quantity: TypeAlias = str
"""A resource quantity as it was given, or canonical after defaulting; see `podlite.api.quantity`."""

IntOrString: TypeAlias = int | str
"""A port number or the name of a port; a count or a percentage."""

Int32: TypeAlias = int
"""An integer from -2147483648 to 2147483647; plain `int` means 64 bits."""

Time: TypeAlias = str
"""RFC 3339 in UTC with whole seconds: 2026-11-23T20:00:00Z."""

MicroTime: TypeAlias = str
"""RFC 3339 in UTC with microseconds: 2026-11-23T20:00:00.123456Z."""

_ACRONYMS = {
    "api": "API",
    "fqdn": "FQDN",
    "id": "ID",
    "io": "IO",
    "ip": "IP",
    "ipc": "IPC",
    "ips": "IPs",
    "pid": "PID",
    "uri": "URI",
    "uuid": "UUID",
    "wwns": "WWNs",
}


def wire_name(attribute: str) -> str:
    """The JSON name of an attribute: `host_ips` → `hostIPs`, `api_version` → `apiVersion`, `continue_` → `continue`."""
    first, *rest = attribute.split("_")
    if not rest:
        return attribute
    return first + "".join([_ACRONYMS.get(word) or word.capitalize() for word in rest])


class Object(msgspec.Struct, kw_only=True, omit_defaults=True, rename=wire_name):
    """The base of every API type. Mutable; equal when all fields are equal."""


def null() -> Any:
    """The default of a field that is printed as `null` while it is unset."""
    return None


def empty_list() -> list[Any]:
    """The default of a list that is printed even when it is empty."""
    return []


def empty_dict() -> dict[str, Any]:
    """The default of a map that is printed even when it is empty."""
    return {}


def zero_quantity() -> Quantity:
    """The default of a quantity that is not optional."""
    return "0"


class constant:  # noqa: N801 - reads as a function: field(default_factory=constant("Pod"))
    """Makes the default of `kind` and `api_version`, which are always printed."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self) -> str:
        return self.value
