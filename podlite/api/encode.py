"""From objects to the v1 shape: plain dicts, JSON and YAML, as kubectl prints them.

Fields are in kubectl's order, which is alphabetical at every level (so apiVersion, kind, metadata, spec,
status). What is empty is left out where the API server leaves it out; what it prints even when empty
(`resources: {}`, `lastProbeTime: null`, `restartCount: 0`) is there. Bytes are base64.

The YAML is read back by kubectl as the same object: a string is quoted if it would be read as anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.api.yaml_source import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.api.base import Object


def to_builtins(value: Object) -> dict[str, Any]:
    """The object as plain dicts, lists and scalars, with keys in order."""
    plain: dict[str, Any] = msgspec.to_builtins(value, order="sorted", str_keys=True)
    return plain


def to_json(value: Object, *, indent: int = 4) -> str:
    """The object as JSON, indented as by `kubectl -o json`; `indent=0` gives one line without spaces."""
    data = msgspec.json.encode(value, order="sorted")
    return (msgspec.json.format(data, indent=indent) if indent else data).decode()


def to_yaml(value: Object) -> str:
    """The object as YAML, as by `kubectl -o yaml`."""
    lines: list[str] = []
    _write_mapping(to_builtins(value), 0, lines)
    return "\n".join(lines) + "\n"


def list_of(items: Sequence[Object]) -> dict[str, Any]:
    """A `List` of objects as plain dicts, as kubectl prints several objects."""
    return {
        "apiVersion": "v1",
        "items": [to_builtins(item) for item in items],
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    }


def dump_json(plain: Any, *, indent: int = 4) -> str:
    """Plain dicts, lists and scalars as JSON."""
    data = msgspec.json.encode(plain, order="sorted")
    return (msgspec.json.format(data, indent=indent) if indent else data).decode()


def dump_yaml(plain: Any) -> str:
    """Plain dicts, lists and scalars as YAML, with keys in alphabetical order."""
    if not isinstance(plain, dict | list) or not plain:
        return _scalar(plain, 0) + "\n"
    lines: list[str] = []
    if isinstance(plain, dict):
        _write_mapping(plain, 0, lines)
    else:
        _write_sequence(plain, 0, lines)
    return "\n".join(lines) + "\n"


# --- YAML -----------------------------------------------------------------------------------

# what may not begin a plain scalar, or may only when no space follows
_INDICATORS = frozenset("-?:,[]{}#&*!|>'\"%@`")
_LONGEST_KEY = 512  # characters; libyaml takes 1024 bytes for a key
_ESCAPES = {
    "\0": "\\0",
    "\a": "\\a",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\v": "\\v",
    "\f": "\\f",
    "\r": "\\r",
    "\x1b": "\\e",
    '"': '\\"',
    "\\": "\\\\",
}


def _write_mapping(mapping: dict[str, Any], indent: int, lines: list[str]) -> None:
    for key in sorted(mapping):
        value = mapping[key]
        start = _start(key, indent, lines)
        if isinstance(value, dict) and value:
            lines.append(start)
            _write_mapping(value, indent + 2, lines)
        elif isinstance(value, list | tuple) and value:
            lines.append(start)
            _write_sequence(value, indent, lines)
        else:
            lines.append(f"{start} {_scalar(value, indent)}")


def _write_sequence(sequence: Sequence[Any], indent: int, lines: list[str]) -> None:
    for value in sequence:
        first = len(lines)
        if isinstance(value, dict) and value:
            _write_mapping(value, indent + 2, lines)
        elif isinstance(value, list | tuple) and value:
            _write_sequence(value, indent + 2, lines)
        else:
            lines.append(f"{' ' * indent}- {_scalar(value, indent)}")
            continue
        lines[first] = f"{' ' * indent}- {lines[first][indent + 2 :]}"


def _start(key: str, indent: int, lines: list[str]) -> str:
    """The line of a key up to its colon. A key that is too long for a line has one of its own before that."""
    text = _quoted(key) if "\n" in key else _text(key, 0)
    if len(text) > _LONGEST_KEY:
        lines.append(f"{' ' * indent}? {text}")
        text = ""
    return f"{' ' * indent}{text}:"


def _scalar(value: Any, indent: int) -> str:
    if isinstance(value, str):
        return _text(value, indent)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return str(value)


def _text(text: str, indent: int) -> str:
    if "\n" in text and _is_literal(text):
        return _literal(text, indent)
    if not text.isprintable():
        return _quoted(text)
    if not isinstance(resolve(text), str) or _looks_like_other(text):
        return _quoted(text)
    if text[0] in _INDICATORS and not (text[0] in "-?:" and len(text) > 1 and text[1] != " "):
        return _single(text)
    if ": " in text or " #" in text or text[-1] in " :" or text[0] == " ":
        return _single(text)
    return "'" + text + "'" if text in ("---", "...", "<<", "=") or text.startswith(("--- ", "... ")) else text


def _looks_like_other(text: str) -> bool:
    """Whether other YAML parsers, or other versions, would take the text for a number or a time."""
    if text[0] not in "+-.0123456789":
        return False
    if ":" in text:
        # base 60 of YAML 1.1, and times
        return all(letter in "+-0123456789_:.TtZz " for letter in text)
    return text[:4].isdigit() and text[4:5] == "-" and all(letter in "0123456789-" for letter in text)


def _single(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(text: str) -> str:
    return '"' + "".join([_ESCAPES.get(letter) or _escaped(letter) for letter in text]) + '"'


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _is_literal(text: str) -> bool:
    """Whether a text of several lines can be written as it is."""
    lines = text.split("\n")
    if not all(line.isprintable() or line.replace("\t", "").isprintable() for line in lines):
        return False
    return bool(text.strip()) and not any(line.endswith((" ", "\t")) and not line.strip() for line in lines)


def _literal(text: str, indent: int) -> str:
    """A block scalar: `|`, `|-` or `|+` by how it ends, with the indentation stated if it begins with a space."""
    body = text.rstrip("\n")
    trailing = len(text) - len(body)
    chomp = "-" if trailing == 0 else "" if trailing == 1 else "+"
    mark = "2" if body[0] in " \n\t" else ""
    pad = " " * (indent + 2)
    lines = [pad + line if line else "" for line in body.split("\n")] + [""] * max(trailing - 1, 0)
    return f"|{mark}{chomp}\n" + "\n".join(lines)
