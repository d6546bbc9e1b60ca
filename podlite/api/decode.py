"""From a tree of nodes to typed objects: strictly, and with every problem found, not only the first.

A value of the wrong type is an error always. A field that the type does not have, and one that is given
twice, are errors with `validate="strict"`, warnings with "warn", and dropped with "ignore", as with
`kubectl --validate`; of a field given twice the last value counts.

The types say how they are read by their annotations, which are looked at when a field is met for the first
time: nothing is prepared for fields that no manifest uses.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from podlite.api import quantity, registry
from podlite.api.base import Object
from podlite.api.gotext import float_text, shown
from podlite.api.problems import DUPLICATE, INVALID, TYPE_INVALID, Problem
from podlite.api.yaml_source import MAPPING, SCALAR, SEQUENCE, Node, from_plain, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[Node, "Decoder", "Path"], Any]

MODES = ("strict", "warn", "ignore")

T = TypeVar("T", bound=Object)
Path = tuple[Any, ...]
"""A path under construction: (parent path, key or index). Written out only when something is wrong."""

# Looking for a near name takes a third of a millisecond: of a text that is all wrong, only the beginning is helped.
_MOST_SUGGESTIONS = 100
_LONGEST_SLIP = 80

UNREADABLE: Any = object()
"""What a reader returns when it has reported a problem: the field keeps its default."""


class Decoder:
    """Reads nodes of one document, and collects what is wrong.

    `problems` and `warnings` are in the order of the text. `suggested` has the paths of fields that an
    unknown field was probably meant to be.
    """

    __slots__ = ("file", "problems", "suggested", "validate", "warnings")

    def __init__(self, file: str = "", *, validate: str = "strict") -> None:
        if validate not in MODES:
            raise ValueError(f"validate must be one of {', '.join(MODES)}, not {validate!r}")
        self.file = file
        self.validate = validate
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.suggested: set[str] = set()

    def read(self, node: Node, kind: type[T], path: str = "") -> T:
        """The object that a node describes; what could not be read has its default."""
        value = _read_object(kind, node, self, (path,) if path else ())
        return kind() if value is UNREADABLE or value is None else value

    def report(self, node: Node, path: Path, message: str, reason: str = TYPE_INVALID) -> Any:
        self.problems.append(Problem(path_text(path), message, reason, self.file, node.line, node.column))
        return UNREADABLE

    def complain(self, node: Node, path: Path, message: str, reason: str) -> None:
        """Reports what is an error, a warning or nothing at all, as `validate` says."""
        if self.validate == "ignore":
            return
        kept = self.problems if self.validate == "strict" else self.warnings
        kept.append(Problem(path_text(path), message, reason, self.file, node.line, node.column))


def from_builtins(value: Any, kind: type[T]) -> T:
    """An object from plain dicts, lists and scalars, such as parsed JSON; unknown fields are ignored.

    Raises ValueError, with one line for each problem, for values of the wrong type.
    """
    decoder = Decoder(validate="ignore")
    found = decoder.read(from_plain(value), kind)
    if decoder.problems:
        raise ValueError("\n".join([str(problem) for problem in decoder.problems]))
    return found


def path_text(path: Path) -> str:
    """A path as the API server writes it: spec.containers[0].resources.limits[cpu]."""
    parts: list[str] = []
    while path:
        last = path[-1]
        parts.append(f"[{last}]" if isinstance(last, int) else last if last.startswith("[") else f".{last}")
        path = path[0] if len(path) == 2 else ()
    return "".join(reversed(parts)).removeprefix(".")


# --- objects --------------------------------------------------------------------------------

_fields: dict[type, dict[str, tuple[str, Reader]]] = {}  # by wire name, filled as fields are met
_names: dict[type, dict[str, str]] = {}


def attributes(kind: type[Object]) -> dict[str, str]:
    """The attribute of each wire name of a type."""
    found = _names.get(kind)
    if found is None:
        _fields.setdefault(kind, {})
        found = _names[kind] = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    return found


def _read_object(kind: type[T], node: Node, decoder: Decoder, path: Path) -> T | None:
    if node.kind != MAPPING:
        return None if node.value is None else _mismatch(node, decoder, path, "an object")
    names = attributes(kind)
    known = _fields[kind]
    values: dict[str, Any] = {}
    for key, key_node, value_node in node.value:
        entry = known.get(key)
        if entry is None:
            attribute = names.get(key)
            if attribute is None:
                _unknown(kind, key, key_node, decoder, path)
                continue
            entry = known[key] = (attribute, reader_of(kind, attribute))
        value = entry[1](value_node, decoder, (path, key))
        # null leaves a field as it would be without it, as Go's JSON does
        if value is not None and value is not UNREADABLE:
            values[entry[0]] = value
    if node.repeated:
        _repeated(node, decoder, path)
    return kind(**values)


def _unknown(kind: type[Object], key: str, node: Node, decoder: Decoder, path: Path) -> None:
    if decoder.validate == "ignore":
        return
    message = "unknown field"
    few = len(decoder.problems) + len(decoder.warnings) < _MOST_SUGGESTIONS and len(key) <= _LONGEST_SLIP
    meant = _nearest(key, kind.__struct_encode_fields__) if few else ""
    if meant:
        message += f', did you mean "{meant}"?'
        decoder.suggested.add(path_text((path, meant)))
    decoder.complain(node, (path, key), message, INVALID)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    """The known name that is meant, or nothing if none is near."""
    import difflib

    by_lower = {each.lower(): each for each in known}
    lower = name.lower()
    if lower in by_lower:
        return by_lower[lower]
    for changed in (lower + "s", lower.removesuffix("s"), lower.replace("_", "").replace("-", "")):
        if changed in by_lower:
            return by_lower[changed]
    near = difflib.get_close_matches(lower, by_lower, n=1, cutoff=0.75)
    return by_lower[near[0]] if near else ""


def _repeated(node: Node, decoder: Decoder, path: Path) -> None:
    for key, first, second in node.repeated or ():
        decoder.complain(second, (path, key), f"duplicate field, first given in line {first.line}", DUPLICATE)


# --- readers by annotation ------------------------------------------------------------------


def reader_of(kind: type[Object], attribute: str) -> Reader:
    """What reads the field, by its annotation."""
    for base in kind.__mro__:
        annotation = getattr(base, "__annotations__", {}).get(attribute)
        if annotation is not None:
            return _reader(annotation.removesuffix(" | None"), base.__module__)
    raise LookupError(f"{kind.__name__} has no field {attribute!r}")


def _reader(annotation: str, module: str) -> Reader:
    found = _SCALARS.get(annotation)
    if found is not None:
        return found
    if annotation.startswith("list["):
        return _list_reader(_reader(annotation[5:-1], module))
    if annotation.startswith("dict[str, "):
        return _map_reader(_reader(annotation[10:-1], module))
    kind = type_named(annotation, module)
    return lambda node, decoder, path: _read_object(kind, node, decoder, path)


def type_named(name: str, module: str) -> type[Object]:
    """The type that a name in an annotation of `module` means."""
    found = getattr(sys.modules[module], name, None)
    return found if isinstance(found, type) and issubclass(found, Object) else registry.find(name)


def _list_reader(element: Reader) -> Reader:
    def read(node: Node, decoder: Decoder, path: Path) -> Any:
        if node.kind != SEQUENCE:
            return None if node.value is None else _mismatch(node, decoder, path, "a list")
        values = []
        for index, each in enumerate(node.value):
            if each.value is None:
                decoder.report(each, (path, index), "Invalid value: null: an element of a list must not be null")
                continue
            value = element(each, decoder, (path, index))
            if value is not UNREADABLE:
                values.append(value)
        return values

    return read


def _map_reader(element: Reader) -> Reader:
    def read(node: Node, decoder: Decoder, path: Path) -> Any:
        if node.kind != MAPPING:
            return None if node.value is None else _mismatch(node, decoder, path, "an object")
        values = {}
        for key, _, each in node.value:
            value = element(each, decoder, (path, f"[{key}]"))
            if value is None:  # Go's JSON makes an entry with the zero value
                value = element(_EMPTY, decoder, path)
            if value is not UNREADABLE:
                values[key] = value
        if node.repeated:
            for key, first, second in node.repeated:
                message = f"duplicate field, first given in line {first.line}"
                decoder.complain(second, (path, f"[{key}]"), message, DUPLICATE)
        return values

    return read


_EMPTY = Node(SCALAR, "", 0, 0)


def _read_str(node: Node, decoder: Decoder, path: Path) -> Any:
    value = node.value
    if isinstance(value, str) or value is None:
        return value
    if node.kind == SCALAR:
        text = shown(value)
        return _mismatch(node, decoder, path, f'a string; in quotes it is one: "{text}"')
    return _mismatch(node, decoder, path, "a string")


def _read_bool(node: Node, decoder: Decoder, path: Path) -> Any:
    value = node.value
    if isinstance(value, bool) or value is None:
        return value
    hint = "; without quotes it is one" if value in ("true", "false") else ""
    return _mismatch(node, decoder, path, f"a boolean, true or false{hint}")


def _whole(node: Node, decoder: Decoder, path: Path, bits: int) -> Any:
    value = node.value
    if value is None:
        return None
    # 1e3 and 80.0 reach the API server as 1000 and 80
    if isinstance(value, float) and abs(value) < 2**63 and value == int(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        hint = "; without quotes it is one" if isinstance(value, str) and value.lstrip("-").isdecimal() else ""
        return _mismatch(node, decoder, path, f"an integer{hint}")
    limit = 2 ** (bits - 1)
    if not -limit <= value < limit:
        return _mismatch(node, decoder, path, f"an integer of {bits} bits, from {-limit} to {limit - 1}")
    return value


def _read_int32(node: Node, decoder: Decoder, path: Path) -> Any:
    return _whole(node, decoder, path, 32)


def _read_int64(node: Node, decoder: Decoder, path: Path) -> Any:
    return _whole(node, decoder, path, 64)


def _read_int_or_string(node: Node, decoder: Decoder, path: Path) -> Any:
    return node.value if isinstance(node.value, str) else _whole(node, decoder, path, 32)


def _read_quantity(node: Node, decoder: Decoder, path: Path) -> Any:
    value = node.value
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _mismatch(node, decoder, path, "a quantity, such as 500m or 64Mi")
    text = float_text(value) if isinstance(value, float) else str(value).strip()
    if node is _EMPTY:
        return "0"
    try:
        quantity.parse(text)
    except quantity.QuantityError as error:
        return decoder.report(node, path, f"Invalid value: {shown(value)}: {error}", INVALID)
    return text


def _read_time(node: Node, decoder: Decoder, path: Path) -> Any:
    return _moment(node, decoder, path, "seconds")


def _read_micro_time(node: Node, decoder: Decoder, path: Path) -> Any:
    return _moment(node, decoder, path, "microseconds")


def _moment(node: Node, decoder: Decoder, path: Path, precision: str) -> Any:
    value = node.value
    if value is None:
        return None
    if isinstance(value, str) and "T" in value:
        from datetime import UTC, datetime

        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
    return _mismatch(node, decoder, path, "a time as in RFC 3339, such as 2026-11-23T20:00:00Z")


def _read_bytes(node: Node, decoder: Decoder, path: Path) -> Any:
    value = node.value
    if value is None:
        return None
    if not isinstance(value, str):
        return _mismatch(node, decoder, path, "a string in base64")
    import binascii

    try:
        return binascii.a2b_base64(value.replace("\n", "").replace("\r", ""), strict_mode=True)
    except ValueError as error:
        return decoder.report(node, path, f"Invalid value: illegal base64 data: {error}", INVALID)


def _read_any(node: Node, decoder: Decoder, path: Path) -> Any:
    return plain(node)


def _mismatch(node: Node, decoder: Decoder, path: Path, wanted: str) -> Any:
    value = node.value
    given = {SEQUENCE: "a list", MAPPING: "an object"}.get(node.kind) or shown(value)
    return decoder.report(node, path, f"Invalid value: {given}: must be {wanted}")


_SCALARS: dict[str, Reader] = {
    "str": _read_str,
    "bool": _read_bool,
    "int": _read_int64,
    "Int32": _read_int32,
    "IntOrString": _read_int_or_string,
    "Quantity": _read_quantity,
    "Time": _read_time,
    "MicroTime": _read_micro_time,
    "bytes": _read_bytes,
    "Any": _read_any,
}
