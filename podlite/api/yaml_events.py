"""The events of a YAML text, by libyaml, without importing PyYAML where that can be avoided.

PyYAML's extension module carries libyaml and exports its C interface. Importing the package to get at it
costs more than everything else that reading a manifest takes (10 to 15 ms: it compiles large regular
expressions for the parsers and constructors that are not used here), so the extension is loaded as the C
library that it also is, by its path, and libyaml's parser is called directly. Nothing of PyYAML is
executed or altered by that, and whoever imports `yaml` in the same process gets it as ever.

The layout of `yaml_event_t` and the head of `yaml_parser_t` are those of yaml.h in libyaml 0.2 on 64-bit machines.
Anywhere else (another version, no extension, no such symbols) the events come from the `yaml` package.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALIAS = 5
SCALAR = 6
SEQUENCE_START = 7
SEQUENCE_END = 8
MAPPING_START = 9
MAPPING_END = 10
DOCUMENT_START = 3
DOCUMENT_END = 4

Event = tuple[int, int, int, "str | None", "str | None", str, bool]
"""kind, line, column (both from 0), anchor, tag, value, and whether a scalar is plain and may be resolved."""

_STREAM_END = 2
_PARSER_SIZE = 4096  # yaml_parser_t has 480 bytes
_EVENT_SIZE = 256  # yaml_event_t has 104
# type; four words of the union: anchor, tag, value, length; plain_implicit; start line and column
_EVENT_LAYOUT = "@i4xPPPNi12xNNN"
# error; problem, its offset and value, its mark; context and its mark
_ERROR_LAYOUT = "@i4xPNi4xNNNPNNN"
_READER_ERROR = 2

_backend: Callable[[bytes], Iterator[Event]] | None = None


class YamlError(Exception):
    """The text is not YAML. `line`, `column` and `context_line` count from 0."""

    def __init__(self, problem: str, line: int, column: int, *, context: str = "", context_line: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column
        self.context = context
        self.context_line = context_line


def events(data: bytes) -> Iterator[Event]:
    """The events of all documents of a UTF-8 text, without the stream's own start and end. Raises YamlError."""
    global _backend
    if _backend is None:
        _backend = _libyaml() or _pyyaml
    return _backend(data)


def _libyaml() -> Callable[[bytes], Iterator[Event]] | None:
    """A parser on libyaml's C interface, or None where it cannot be had."""
    path = _extension_path()
    if path is None or sys.maxsize != 2**63 - 1:
        return None
    import ctypes
    import struct

    try:
        library: Any = ctypes.PyDLL(path)
        initialize, delete = library.yaml_parser_initialize, library.yaml_parser_delete
        set_input, parse = library.yaml_parser_set_input_string, library.yaml_parser_parse
        set_encoding, delete_event = library.yaml_parser_set_encoding, library.yaml_event_delete
        version = library.yaml_get_version
    except (OSError, AttributeError):
        return None
    pointer = ctypes.c_void_p
    version.argtypes, version.restype = (pointer, pointer, pointer), None
    initialize.argtypes = (pointer,)
    delete.argtypes, delete.restype = (pointer,), None
    set_input.argtypes, set_input.restype = (pointer, ctypes.c_char_p, ctypes.c_size_t), None
    set_encoding.argtypes, set_encoding.restype = (pointer, ctypes.c_int), None
    parse.argtypes = (pointer, pointer)
    delete_event.argtypes, delete_event.restype = (pointer,), None
    numbers = (ctypes.c_int * 3)()
    base = ctypes.addressof(numbers)
    version(base, base + 4, base + 8)
    if tuple(numbers)[:2] != (0, 2):
        return None
    read_event = struct.Struct(_EVENT_LAYOUT).unpack_from
    read_error = struct.Struct(_ERROR_LAYOUT).unpack_from
    string_at = ctypes.string_at
    buffer = ctypes.create_string_buffer

    def text_at(address: int | None) -> str | None:
        return string_at(address).decode() if address else None

    def parsed(data: bytes) -> Iterator[Event]:
        parser_buffer, event_buffer = buffer(_PARSER_SIZE), buffer(_EVENT_SIZE)
        parser, event = ctypes.addressof(parser_buffer), ctypes.addressof(event_buffer)
        if not initialize(parser):
            raise MemoryError
        try:
            set_encoding(parser, 1)  # YAML_UTF8_ENCODING
            set_input(parser, data, len(data))
            while True:
                if not parse(parser, event):
                    raise _error(data, read_error(parser_buffer), text_at)
                kind, anchor, tag, value, length, plain, _, line, column = read_event(event_buffer)
                if kind == SCALAR:
                    content = string_at(value, length).decode()
                    item = (kind, line, column, text_at(anchor), text_at(tag), content, bool(plain))
                elif kind >= SEQUENCE_START and kind % 2 == 1:
                    item = (kind, line, column, text_at(anchor), text_at(tag), "", False)
                elif kind == ALIAS:
                    item = (kind, line, column, text_at(anchor), None, "", False)
                else:
                    item = (kind, line, column, None, None, "", False)
                delete_event(event)
                if kind == _STREAM_END:
                    return
                if kind > _STREAM_END:
                    yield item
        finally:
            delete(parser)

    return parsed


def _error(data: bytes, fields: tuple[int, ...], text_at: Callable[[int], str | None]) -> YamlError:
    kind, problem, offset, _, _, line, column, context, _, context_line, _ = fields
    said = text_at(problem) or "the text cannot be parsed"
    if kind == _READER_ERROR:
        return YamlError(said, *_place(data, offset))
    if not context:
        context_line = 0  # its mark is then whatever an earlier token left there
    return YamlError(said, line, column, context=text_at(context) or "", context_line=context_line)


def _place(data: bytes, offset: int) -> tuple[int, int]:
    """Line and column, from 0 and in characters, of a byte of the text."""
    before = data[:offset]
    return before.count(b"\n"), len(before[before.rfind(b"\n") + 1 :].decode(errors="replace"))


def _extension_path() -> str | None:
    """Where PyYAML's extension lies, found without importing the package."""
    from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
    from os.path import exists

    found = PathFinder.find_spec("yaml")
    for folder in (found and found.submodule_search_locations) or ():
        for suffix in EXTENSION_SUFFIXES:
            path = f"{folder}/_yaml{suffix}"
            if exists(path):
                return path
    return None


def _pyyaml(data: bytes) -> Iterator[Event]:
    """The same events from the `yaml` package, by its C parser where it has one."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kinds = {
        yaml.DocumentStartEvent: DOCUMENT_START,
        yaml.DocumentEndEvent: DOCUMENT_END,
        yaml.AliasEvent: ALIAS,
        yaml.ScalarEvent: SCALAR,
        yaml.SequenceStartEvent: SEQUENCE_START,
        yaml.SequenceEndEvent: SEQUENCE_END,
        yaml.MappingStartEvent: MAPPING_START,
        yaml.MappingEndEvent: MAPPING_END,
    }
    try:
        for event in yaml.parse(data, Loader=loader):
            kind = kinds.get(type(event))
            if kind is None:
                continue
            mark: Any = event.start_mark
            anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
            scalar: Any = event if kind == SCALAR else None
            value, plain = (scalar.value, bool(scalar.implicit[0])) if scalar else ("", False)
            yield (kind, mark.line, mark.column, anchor, tag, value, plain)
    except yaml.reader.ReaderError as error:
        raise YamlError(str(error.reason), *_place(data, error.position)) from None
    except yaml.MarkedYAMLError as error:
        spot = error.problem_mark or error.context_mark
        line, column = (spot.line, spot.column) if spot else (0, 0)
        context_line = error.context_mark.line if error.context_mark else 0
        context = error.context or ""
        raise YamlError(error.problem or str(error), line, column, context=context, context_line=context_line) from None
