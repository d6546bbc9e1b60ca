"""How values are shown in messages: strconv.Quote and encoding/json of Go."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.gotext import float_text, quote, shown
from podlite.api.security import Capabilities


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", '""'),
        ("a b", '"a b"'),
        ("é😀", '"é😀"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("a\nb\t", r'"a\nb\t"'),
        ("\x00\x07\x1b\x7f", r'"\x00\a\x1b\x7f"'),
        ("\xa0\u200b\u2028", r'"\u00a0\u200b\u2028"'),
        ("\U000e0001", r'"\U000e0001"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (1.5e300, "1.5e+300"),
    ],
)
def test_floats(number: float, text: str) -> None:
    assert float_text(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", '"x"'),
        (5, "5"),
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        (["b", "a"], '["b","a"]'),
        ({"b": "<", "a": "&"}, r'{"a":"\u0026","b":"\u003c"}'),
        (Capabilities(add=["ALL"]), '{"add":["ALL"]}'),
    ],
)
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text
