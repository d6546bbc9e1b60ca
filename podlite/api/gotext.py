"""How Go prints a value inside a message: clients compare these texts, so they are spelt the same here."""

from __future__ import annotations

from typing import Any

import msgspec

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    """The text as strconv.Quote writes it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_ESCAPES.get(letter) or _escaped(letter) for letter in text]) + '"'


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def float_text(number: float) -> str:
    """The number as Go's JSON writes it: without a point where it is whole, with an exponent where it is extreme."""
    if abs(number) < 1e21 and number == int(number):
        return str(int(number))
    return repr(number).replace("e-0", "e-")


def shown(value: Any) -> str:
    """The value as an error of the API server shows it: a string quoted, a number or bool bare, the rest as JSON."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    text = msgspec.json.encode(value, order="deterministic").decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
