"""Objects in the form that `-o` asks for: a table, JSON, YAML, names, or what a template makes of them."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from podlite.cli.table import format_table
from podlite.errors import UsageError

if TYPE_CHECKING:
    from podlite.cli.api import Kind
    from podlite.cli.api_tables import Form
    from podlite.cli.jsonpath import Template

FORMS = ("json", "yaml", "wide", "name")
TEMPLATES = ("jsonpath", "custom-columns")
_METAVAR = "json|yaml|wide|name|jsonpath=TEMPLATE|custom-columns=HEADER:PATH,..."


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option -o."""
    parser.add_argument("-o", "--output", type=_form, metavar=_METAVAR, help="another form than the table")


def _form(text: str) -> str:
    if text in FORMS or text.partition("=")[0] in TEMPLATES:
        return text
    forms = ", ".join((*FORMS, *(f"{each}=" for each in TEMPLATES)))
    raise argparse.ArgumentTypeError(f"there is no form {text!r}: it is one of {forms}")


class Printer:
    """Prints objects of one kind."""

    def __init__(
        self, kind: Kind, arguments: argparse.Namespace, *, intervals: bool = False, with_kind: bool = False
    ) -> None:
        """With `intervals` the table of events is that of `kubectl events`; `with_kind` has names say the kind, too.

        Raises UsageError.
        """
        self._kind = kind
        output: str = arguments.output or ""
        self._output, _, template = output.partition("=")
        self._template: Template | None = None
        self._custom: list[tuple[str, Template]] = []
        if self._output == "jsonpath":
            from podlite.cli.jsonpath import Template as Read

            if not template:
                raise UsageError("template format specified but no template given", hint="-o jsonpath='{.items[*]}'")
            self._template = Read(template)
        elif self._output == "custom-columns":
            self._custom = _custom_columns(template)
        self._intervals = intervals and self._output != "wide"
        self._events = getattr(arguments, "output_watch_events", False)
        self._with_header = not arguments.no_headers
        self._form: Form = {
            "wide": self._output == "wide",
            "namespaces": arguments.all_namespaces,
            "labels": getattr(arguments, "show_labels", False),
            "label_columns": tuple(getattr(arguments, "label_columns", ())),
            "with_kind": with_kind or getattr(arguments, "show_kind", False),
        }
        self._widths: list[int] = []

    def all(self, found: list[dict[str, Any]], *, single: bool) -> None:
        """What was got: one object as it is, several as a List."""
        if self._output in ("json", "yaml", "jsonpath"):
            whole = {"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"resourceVersion": ""}}
            self._text(found[0] if single and len(found) == 1 else whole)
        elif self._output == "name":
            _write("".join(self._name(each) for each in found))
        else:
            rows = [self._row(each) for each in found]
            _write(format_table(self._header(), rows, with_header=self._with_header))

    def event(self, type: str, value: dict[str, Any]) -> None:
        """One change, at once; the columns grow as they must."""
        if self._output in ("json", "yaml", "jsonpath"):
            self._text({"type": type, "object": value} if self._events else value)
            return
        if self._output == "name":
            _write(self._name(value))
            return
        lines = [[type, *self._row(value)] if self._events else self._row(value)]
        if not self._widths and self._with_header:
            lines.insert(0, ["EVENT", *self._header()] if self._events else self._header())
        for line in lines:
            self._widths = [max(pair) for pair in zip(self._widths or [0] * len(line), map(len, line), strict=True)]
        text = "".join(
            "   ".join(cell.ljust(width) for cell, width in zip(line, self._widths, strict=True)).rstrip() + "\n"
            for line in lines
        )
        _write(text)

    def _name(self, value: dict[str, Any]) -> str:
        return f"{value.get('kind', self._kind.kind).lower()}/{value['metadata']['name']}\n"

    def _header(self) -> list[str]:
        from podlite.cli.api_tables import EVENTS_HEADER, header

        if self._custom:
            return [each for each, _ in self._custom]
        if self._intervals:
            return [*(["NAMESPACE"] if self._form["namespaces"] else []), *EVENTS_HEADER]
        return header(self._kind, self._form)

    def _row(self, value: dict[str, Any]) -> list[str]:
        from podlite.cli.api_tables import custom_cell, event_row, row

        if self._custom:
            return [custom_cell(template.find(value)) for _, template in self._custom]
        if self._intervals:
            return event_row(self._kind, value, time.time_ns(), namespaces=self._form["namespaces"])
        return row(self._kind, value, time.time_ns(), self._form)

    def _text(self, plain: Any) -> None:
        from podlite.api import encode

        if self._template is not None:
            _write(self._template.render(plain))
        elif self._output == "json":
            _write(encode.dump_json(plain) + "\n")
        else:
            _write(encode.dump_yaml(plain))


def _custom_columns(spec: str) -> list[tuple[str, Template]]:
    """(header, path) of each. Raises UsageError."""
    from podlite.cli.jsonpath import relaxed

    if not spec:
        raise UsageError("custom-columns format specified but no custom columns given")
    found = []
    for each in spec.split(","):
        header, colon, path = each.partition(":")
        if not header or not colon or not path:
            raise UsageError(f"unexpected custom-columns spec: {each}, expected <header>:<json-path-expr>")
        found.append((header, relaxed(path)))
    return found


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
