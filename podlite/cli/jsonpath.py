"""kubectl's JSONPath templates: what `-o jsonpath`, `--sort-by`, custom columns and `wait --for=jsonpath` say. Pure.

`{range .items[*]}{.metadata.name}{"\\n"}{end}`: text, and in braces paths, quoted text and ranges. It is a dialect of
its own, which no library of RFC 9535 reads: fields are escaped with backslashes, a key in brackets may be a whole path,
and `$` and `@` are both what a path begins at. What is not there is nothing, as with --allow-missing-template-keys.

Source: k8s.io/client-go/util/jsonpath and https://kubernetes.io/docs/reference/kubectl/jsonpath/, Kubernetes 1.36.
"""

from __future__ import annotations

import json
import operator
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from podlite.api.gotext import float_text
from podlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # From what has been found so far to what is found from there.
    Step = Callable[[list[Any]], list[Any]]

_SPACES = " \t"
_FIELD_END = frozenset(" \t\n.,[]$@{}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]+)?")
_SLICE = re.compile(r"(-?[0-9]{1,18})?(?::(-?[0-9]{1,18})?)?(?::(-?[0-9]{1,18})?)?")
_COMPARISON = re.compile(r"(.*?)\s*(==|!=|<=|>=|<|>)\s*(.*)", re.DOTALL)
_RELAXED = re.compile(r"\{\.?([^{}]+)\}|\.?([^{}]+)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class JsonPathError(UsageError):
    """A template that cannot be read, or that does not fit what it is used on."""


class _Path(NamedTuple):
    steps: tuple[Step, ...]

    def find(self, value: Any) -> list[Any]:
        found = [value]
        for step in self.steps:
            found = step(found)
        return found


class _Range(NamedTuple):
    over: _Path
    body: list[_Node]


_Node = str | _Path | _Range


class Template:
    """A template that has been read."""

    def __init__(self, text: str) -> None:
        """Raises JsonPathError."""
        try:
            self._nodes = _Reader(text).template()
        except RecursionError:
            raise JsonPathError("the template is nested too deeply") from None

    def render(self, value: Any) -> str:
        """What it makes of a value. Raises JsonPathError."""
        return "".join(_rendered(self._nodes, value))

    def find(self, value: Any) -> list[Any]:
        """What its paths lead to, one after the other. Raises JsonPathError."""
        return [each for node in self._nodes if isinstance(node, _Path) for each in node.find(value)]


def relaxed(text: str) -> Template:
    """A single path, with or without braces and the first dot. Raises JsonPathError."""
    found = _RELAXED.fullmatch(text)
    if found is None:
        raise JsonPathError(
            f"unexpected path string {text!r}, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or "
            "'{.name1.name2}'"
        )
    path = found.group(1) or found.group(2)
    return Template(f"{{{path}}}" if path.startswith("[") else f"{{.{path}}}")


def _rendered(nodes: Sequence[_Node], value: Any) -> list[str]:
    texts = []
    for node in nodes:
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, _Path):
            texts.append(" ".join(map(text_of, node.find(value))))
        else:
            for each in node.over.find(value):
                texts += _rendered(node.body, each)
    return texts


def text_of(value: Any) -> str:
    """One result, as the template prints it."""
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return float_text(value) if isinstance(value, float) else str(value)


# --- reading ------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def template(self) -> list[_Node]:
        nodes, ended = self._nodes(inside_range=False)
        if ended:
            raise JsonPathError("not in range, nothing to end")
        return nodes

    def _nodes(self, *, inside_range: bool) -> tuple[list[_Node], bool]:
        """(what follows, whether an `end` ended it)."""
        nodes: list[_Node] = []
        while self._at < len(self._text):
            start = self._text.find("{", self._at)
            if start < 0:
                nodes.append(self._text[self._at :])
                self._at = len(self._text)
                break
            if start > self._at:
                nodes.append(self._text[self._at : start])
            self._at = start + 1
            if self._keyword("end"):
                self._close()
                return nodes, True
            if self._keyword("range"):
                over = self._path()
                self._close()
                body, ended = self._nodes(inside_range=True)
                if not ended:
                    raise JsonPathError("unclosed range: {end} is missing")
                nodes.append(_Range(over, body))
            else:
                nodes += self._action()
                self._close()
        return nodes, False

    def _keyword(self, word: str) -> bool:
        self._skip()
        rest = self._text[self._at :]
        if not rest.startswith(word) or (rest[len(word) :][:1] or "}") not in " \t}":
            return False
        self._at += len(word)
        return True

    def _skip(self) -> None:
        while self._peek() and self._peek() in _SPACES:
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _close(self) -> None:
        self._skip()
        if self._peek() != "}":
            raise JsonPathError(f"unclosed action in {self._text!r}")
        self._at += 1

    def _action(self) -> list[_Node]:
        """Quoted texts and paths up to the closing brace."""
        nodes: list[_Node] = []
        while True:
            self._skip()
            char = self._peek()
            if char in ("", "}"):
                return nodes
            nodes.append(self._quoted() if char in "'\"" else self._path())

    def _quoted(self) -> str:
        quote, found = self._peek(), []
        self._at += 1
        while (char := self._peek()) != quote:
            if not char:
                raise JsonPathError(f"unterminated quoted string in {self._text!r}")
            self._at += 1
            if char == "\\":
                char = _ESCAPES.get(self._peek(), self._peek())
                self._at += 1
            found.append(char)
        self._at += 1
        return "".join(found)

    def _path(self) -> _Path:
        steps: list[Step] = []
        begin = self._at
        while True:
            self._skip()
            char = self._peek()
            if char and char in "$@":
                self._at += 1
                if not steps:
                    steps.append(list)
            elif char == ".":
                steps += self._dotted()
            elif char == "[":
                steps.append(self._bracket())
            elif self._at == begin or not steps:
                word = re.match(r"[^\s.\[\]{},]*", self._text[self._at :])
                raise JsonPathError(f"unrecognized identifier {word.group() if word else char} in {self._text!r}")
            else:
                return _Path(tuple(steps))

    def _dotted(self) -> list[Step]:
        """One dot, or two for everything below, and what follows; a dot alone is where one is."""
        steps: list[Step] = []
        if self._text.startswith("..", self._at):
            self._at += 1
            steps.append(_descendants)
        self._at += 1
        if self._peek() == "*":
            self._at += 1
            return [*steps, _all]
        name = self._field()
        if name:
            steps.append(_field(name))
        return steps or [list]

    def _field(self) -> str:
        found = []
        while (char := self._peek()) and char not in _FIELD_END:
            self._at += 1
            if char == "\\":
                char = self._peek()
                self._at += 1
            found.append(char)
        return "".join(found)

    def _bracket(self) -> Step:
        inner = self._inside_brackets()
        if inner.startswith("?("):
            return _filter(inner[2:-1].strip())
        if inner == "*":
            return _slice(None, None, None)
        parts = _split(inner)
        steps = [_element(each.strip()) for each in parts]
        return steps[0] if len(steps) == 1 else _union(steps)

    def _inside_brackets(self) -> str:
        """What stands between a bracket and its counterpart; quoted ones do not count."""
        depth, quote, start = 0, "", self._at + 1
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if quote:
                if char == "\\":
                    self._at += 1
                elif char == quote:
                    quote = ""
            elif char in "'\"":
                quote = char
            elif char == "[":
                depth += 1
            elif char == "]":
                depth -= 1
                if not depth:
                    return self._text[start : self._at - 1].strip()
        raise JsonPathError(f"unterminated array in {self._text!r}")


def _split(text: str) -> list[str]:
    """At commas outside quotes."""
    return re.findall(r"(?:'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|[^,])+", text) or [text]


def _operand(text: str) -> Callable[[Any], list[Any]]:
    """One side of a filter's comparison."""
    if text in ("true", "false"):
        return lambda value: [text == "true"]
    if _NUMBER.fullmatch(text):
        number = float(text) if "." in text else int(text)
        return lambda value: [number]
    nodes = _Reader(f"{{{text}}}").template()
    node = nodes[0] if len(nodes) == 1 else None
    if isinstance(node, str):
        return lambda value: [node]
    if not isinstance(node, _Path):
        raise JsonPathError(f"a filter cannot compare {text!r}")
    return node.find


# --- steps --------------------------------------------------------------------------------------


def _field(name: str) -> Step:
    return lambda values: [each[name] for each in values if isinstance(each, dict) and name in each]


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _all(values: list[Any]) -> list[Any]:
    return [child for each in values for child in _children(each)]


def _descendants(values: list[Any]) -> list[Any]:
    """Everything that has something in it, from the outside to the inside."""
    found = []
    for each in values:
        children = _children(each)
        if children:
            found += [each, *_descendants(children)]
    return found


def _union(steps: list[Step]) -> Step:
    return lambda values: [found for step in steps for found in step(values)]


def _element(text: str) -> Step:
    """An index, a slice, or a key in quotes, which may be a path."""
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        path = _Reader(f"{{.{text[1:-1]}}}").template()[0]
        assert isinstance(path, _Path)
        return lambda values: [found for each in values for found in path.find(each)]
    match = _SLICE.fullmatch(text)
    if match is None or not text:
        raise JsonPathError(f"invalid array index {text}")
    begin, end, step = (int(each) if each else None for each in match.groups())
    if ":" in text:
        return _slice(begin, end, step)
    assert begin is not None
    return _index(begin)


def _index(index: int) -> Step:
    def step(values: list[Any]) -> list[Any]:
        found = []
        for each in values:
            if each is None:
                continue
            items = _array(each)
            if not -len(items) <= index < len(items):
                raise JsonPathError(f"array index out of bounds: index {index}, length {len(items)}")
            found.append(items[index])
        return found

    return step


def _slice(begin: int | None, end: int | None, step: int | None) -> Step:
    if step is not None and step <= 0:
        raise JsonPathError("step must be > 0")
    return lambda values: [item for each in values if each is not None for item in _array(each)[begin:end:step]]


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise JsonPathError(f"{text_of(value)} is not array or slice")
    return value


def _filter(text: str) -> Step:
    comparison = _COMPARISON.fullmatch(text)
    if comparison is None:
        there = _operand(text)
        return lambda values: [item for each in values for item in _array(each) if there(item)]
    left, sign, right = comparison.groups()
    if right[:1] in ("<", ">", "="):
        raise JsonPathError(f"unrecognized filter operator {sign}{right[:1]}")
    one, other = _operand(left), _operand(right)

    def passes(item: Any) -> bool:
        lefts, rights = one(item), other(item)
        if len(lefts) > 1 or len(rights) > 1:
            raise JsonPathError("can only compare one element at a time")
        return bool(lefts and rights) and _compare(lefts[0], sign, rights[0])

    return lambda values: [item for each in values for item in _array(each) if passes(item)]


def _compare(left: Any, comparison: str, right: Any) -> bool:
    alike = isinstance(left, bool) == isinstance(right, bool)
    if comparison == "==":
        return alike and bool(left == right)
    if comparison == "!=":
        return not alike or bool(left != right)
    texts = isinstance(left, str) and isinstance(right, str)
    if not alike or not (texts or (_is_number(left) and _is_number(right))):
        raise JsonPathError(f"{text_of(left)} and {text_of(right)} cannot be compared")
    return bool(_ORDERS[comparison](left, right))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
