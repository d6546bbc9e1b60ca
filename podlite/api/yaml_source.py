"""A YAML text as a tree in which every key and value knows its line and column.

Scalars are resolved as kubectl resolves them (sigs.k8s.io/yaml on go.yaml.in/yaml/v2): YAML 1.1 with yes, no, on,
off, y and n as booleans, 0644 and 0o644 as octal, no base 60, and what looks like a time stays a string.
JSON is read too. Nothing here raises on bad input: what cannot be read becomes a `Problem`, and reading goes
on with the next document.

Source: go.yaml.in/yaml/v2 resolve.go and decode.go, sigs.k8s.io/yaml yaml.go, as vendored by Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from podlite.api import yaml_events
from podlite.api.gotext import float_text
from podlite.api.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

SCALAR = 0
SEQUENCE = 1
MAPPING = 2

MAX_DEPTH = 128
"""How deep a document may nest; the deepest fields of the Kubernetes API are at about 20."""

Scalar: TypeAlias = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True)
_WORDS |= dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False)
_WORDS |= dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))
_WORDS |= dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf"))
_WORDS |= dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf"))
_MAYBE_WORD = frozenset("yYnNtTfFoO~.+-0123456789")
_NUMBER_START = frozenset("+-0123456789")
_FLOAT_LETTERS = frozenset("0123456789.eE+-")
_DIGITS = {2: frozenset("01"), 8: frozenset("01234567"), 10: frozenset("0123456789")}
_DIGITS[16] = frozenset("0123456789abcdefABCDEF")
_PREFIXES = {"0x": 16, "0X": 16, "0o": 8, "0O": 8, "0b": 2, "0B": 2}
_TAG = "tag:yaml.org,2002:"


class Node:
    """One value of the tree. `line` and `column` count from 1.

    `value` is the scalar; or the list of nodes of a sequence; or the list of (key, key's node, value's node) of
    a mapping, in order, each key once: of a key that is given twice the last value counts, and `repeated` has
    the (key, first key's node, second key's node) of each repetition. Keys from a merge (`<<`) repeat nothing.
    `size` is how many nodes this one stands for when every alias is written out.
    """

    __slots__ = ("_by_key", "column", "kind", "line", "repeated", "size", "value")

    def __init__(self, kind: int, value: Any, line: int, column: int) -> None:
        self.kind = kind
        self.value = value
        self.line = line
        self.column = column
        self.size = 1
        self.repeated: list[tuple[str, Node, Node]] | None = None
        self._by_key: dict[str, Node] | None = None

    def get(self, key: str) -> Node | None:
        """The value of a key of a mapping, or None."""
        if self.kind != MAPPING:
            return None
        if self._by_key is None:
            self._by_key = {each: value for each, _, value in self.value}
        return self._by_key.get(key)


def load(text: str | bytes, file: str) -> tuple[list[Node], list[Problem]]:
    """The roots of the documents of a text, and what cannot be read of it. Documents that are empty are left out."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    roots: list[Node] = []
    problems: list[Problem] = []
    first_line = 1
    while True:
        try:
            for root in _documents(data, first_line):
                if root.kind != SCALAR or root.value is not None:
                    roots.append(root)  # noqa: PERF401 - the documents before a broken one count
            return roots, problems
        except yaml_events.YamlError as error:
            if first_line == 1 and data.lstrip()[:1] in (b"{", b"["):
                from_json = _json(data)
                if from_json is not None:
                    return [from_json], []
            problems.append(_problem(error, data, first_line, file))
            skipped, data = _from_next_document(data, error.line)
            if not data:
                return roots, problems
            first_line += skipped


def plain(node: Node) -> Any:
    """The value as plain dicts, lists and scalars."""
    if node.kind == MAPPING:
        return {key: plain(value) for key, _, value in node.value}
    if node.kind == SEQUENCE:
        return [plain(value) for value in node.value]
    return node.value


def from_plain(value: Any, line: int = 0, column: int = 0) -> Node:
    """A tree of plain dicts, lists and scalars, all of it at one place."""
    if isinstance(value, dict):
        entries = []
        for key, each in value.items():
            entries.append((str(key), Node(SCALAR, key, line, column), from_plain(each, line, column)))
        return Node(MAPPING, entries, line, column)
    if isinstance(value, list | tuple):
        return Node(SEQUENCE, [from_plain(each, line, column) for each in value], line, column)
    return Node(SCALAR, value, line, column)


def resolve(text: str) -> Scalar:
    """What a plain scalar means."""
    if text and text[0] not in _MAYBE_WORD:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _float(text, text)
    if text[0] not in _NUMBER_START:
        return text
    digits = text.replace("_", "")
    number = _integer(digits)
    return _float(digits, text) if number is None else number


def _integer(text: str) -> int | None:
    """The text as an integer of 64 bits, with Go's prefixes, or None."""
    sign = text[0] if text[0] in "+-" else ""
    body = text[1:] if sign else text
    base = _PREFIXES.get(body[:2], 0)
    if base:
        body = body[2:]
    elif len(body) > 1 and body[0] == "0":
        base, body = 8, body[1:]
    else:
        base = 10
    if not body or len(body) > 128 or not _DIGITS[base].issuperset(body):
        return None
    number = int(body, base)
    if sign == "-":
        return -number if number <= 2**63 else None
    return number if number < (2**63 if sign else 2**64) else None


def _float(digits: str, text: str) -> Scalar:
    if not _FLOAT_LETTERS.issuperset(digits) or len(digits) > 4096:
        return text
    try:
        number = float(digits)
    except ValueError:
        return text
    return text if number in (float("inf"), float("-inf")) else number


def _tagged(tag: str, text: str) -> Scalar:
    """What a scalar with an explicit tag means. Raises ValueError where the two do not fit."""
    kind = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    if kind == "binary":
        import base64

        return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
    if kind not in ("bool", "int", "float", "null"):
        return text
    value = resolve(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    found = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}[type(value)]
    if found != kind:
        raise ValueError(f"cannot decode !!{found} `{text}` as a !!{kind}")
    return value


def _key(node: Node) -> str:
    """A mapping's key as a string, as sigs.k8s.io/yaml makes it. Raises ValueError where it cannot."""
    value = node.value
    if node.kind != SCALAR or value is None:
        raise ValueError("a key must be a string")
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return float_text(value) if isinstance(value, float) else str(value)


class _Open:
    """A sequence or mapping whose end has not come.

    `key` is the pending key of a mapping, and `merging` whether that is a merge; `seen` has where each key's
    entry is, and whether it came from a merge.
    """

    __slots__ = ("anchor", "key", "merging", "node", "seen")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Node | None = None
        self.merging = False
        self.seen: dict[str, tuple[int, bool]] = {}


def _documents(data: bytes, first_line: int) -> Iterator[Node]:
    """The root of each document. Raises YamlError, with the line counted from the beginning of `data`."""
    anchors: dict[str, Node | None] = {}  # None: the anchor's node has not ended yet
    stack: list[_Open] = []
    root: Node | None = None
    written = 0
    for kind, line, column, anchor, tag, text, is_plain in yaml_events.events(data):
        if kind == yaml_events.DOCUMENT_START:
            anchors, root, written = {}, None, 0
            continue
        if kind == yaml_events.DOCUMENT_END:
            if root is not None:
                if root.size > 1000 and _is_excessive(root.size, written):
                    raise yaml_events.YamlError("document contains excessive aliasing", line, column)
                yield root
            continue
        merge = False
        if kind not in (yaml_events.SEQUENCE_END, yaml_events.MAPPING_END):
            written += 1
        if kind == yaml_events.SCALAR:
            merge = text == "<<" and (is_plain or tag == f"{_TAG}merge")
            try:
                value = (resolve(text) if is_plain else text) if tag is None else _tagged(tag, text)
            except ValueError as error:
                raise yaml_events.YamlError(str(error), line, column) from None
            node = Node(SCALAR, value, line + first_line, column + 1)
        elif kind == yaml_events.ALIAS:
            if anchor not in anchors:
                raise yaml_events.YamlError(f"unknown anchor '{anchor}' referenced", line, column)
            target = anchors[anchor]
            if target is None:
                raise yaml_events.YamlError(f"anchor '{anchor}' value contains itself", line, column)
            node, anchor = target, None
        elif kind in (yaml_events.SEQUENCE_START, yaml_events.MAPPING_START):
            if len(stack) == MAX_DEPTH:
                raise yaml_events.YamlError(f"the document nests deeper than {MAX_DEPTH} levels", line, column)
            kind = SEQUENCE if kind == yaml_events.SEQUENCE_START else MAPPING
            if anchor:
                anchors[anchor] = None
            stack.append(_Open(Node(kind, [], line + first_line, column + 1), anchor))
            continue
        else:
            closed = stack.pop()
            node, anchor = closed.node, closed.anchor
        if anchor:
            anchors[anchor] = node
        if stack:
            _add(stack[-1], node, merge, line, column)
        else:
            root = node


def _add(parent: _Open, node: Node, merge: bool, line: int, column: int) -> None:
    """Puts a finished node into the sequence or mapping around it."""
    owner = parent.node
    owner.size += node.size
    if owner.kind == SEQUENCE:
        owner.value.append(node)
    elif parent.key is None:
        parent.key = node
        parent.merging = merge
    else:
        key, parent.key = parent.key, None
        try:
            if parent.merging:
                _merge(parent, node)
            else:
                _set(parent, _key(key), key, node, merged=False)
        except ValueError as error:
            raise yaml_events.YamlError(str(error), line, column) from None


def _set(parent: _Open, name: str, key: Node, value: Node, *, merged: bool) -> None:
    entries = parent.node.value
    seen = parent.seen.get(name)
    parent.seen[name] = (len(entries) if seen is None else seen[0], merged)
    if seen is None:
        entries.append((name, key, value))
        return
    index, was_merged = seen
    if not merged and not was_merged:
        if parent.node.repeated is None:
            parent.node.repeated = []
        parent.node.repeated.append((name, entries[index][1], key))
    entries[index] = (name, key, value)


def _merge(parent: _Open, value: Node) -> None:
    """Adds the entries of a mapping, or of several of which the first counts most."""
    sources = reversed(value.value) if value.kind == SEQUENCE else (value,)
    for source in sources:
        if source.kind != MAPPING:
            raise ValueError("map merge requires map or sequence of maps as the value")
        for name, key, each in source.value:
            _set(parent, name, key, each, merged=True)


def _is_excessive(expanded: int, written: int) -> bool:
    """Whether too much of a document comes from aliases, by go-yaml's limits."""
    from_aliases = expanded - written
    low, high = 400_000, 4_000_000
    if expanded <= low:
        allowed = 0.99
    elif expanded >= high:
        allowed = 0.10
    else:
        allowed = 0.99 - 0.89 * (expanded - low) / (high - low)
    return from_aliases > 100 and from_aliases > allowed * expanded


def _problem(error: yaml_events.YamlError, data: bytes, first_line: int, file: str) -> Problem:
    sentence = f"YAML cannot be read: {error.problem}"
    if error.context:
        sentence += f", {error.context}"
        if error.context_line != error.line:
            sentence += f" that begins in line {error.context_line + first_line}"
    lines = data.splitlines()
    if error.line < len(lines) and b"\t" in lines[error.line][: error.column + 1]:
        sentence += "; YAML is indented with spaces, and there is a tab"
    return Problem("", sentence, file=file, line=error.line + first_line, column=error.column + 1)


def _from_next_document(data: bytes, line: int) -> tuple[int, bytes]:
    """How many lines lie before the next document that begins at or after a line, and the text from there."""
    lines = data.splitlines(keepends=True)
    for number in range(max(line, 1), len(lines)):
        if lines[number].rstrip() == b"---" or lines[number].startswith(b"--- "):
            return number, b"".join(lines[number:])
    return 0, b""


def _json(data: bytes) -> Node | None:
    """The text as JSON, for the few things that JSON allows and YAML does not; None if it is not JSON."""
    import json

    try:
        return from_plain(json.loads(data), 1, 1)
    except (ValueError, RecursionError):
        return None
