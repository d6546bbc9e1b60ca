"""The page of the documentation that shows which fields are supported: `python -m podlite.api.fields_page FILE`."""

from __future__ import annotations

import sys

from podlite.api.fields import Row, rows

_HEAD = """# Which fields of a Pod podlite supports

Written by `python -m podlite.api.fields_page docs/fields.md` from the table in `podlite/api/fields.py`; do not edit.
`podlite check --fields` prints the same.

- **implemented**: podlite does what Kubernetes does.
- **accepted**: the field may be set, and the reason says why nothing follows from it here.
- **refused**: using it is an error that names the field, for the reason given.

A type that occurs in several places (probes, key lists, selectors) is shown where it occurs first; what a
field's row says holds for what is below it there too. Init containers have the fields of containers.

| field | status | why |
|---|---|---|
"""


def markdown() -> str:
    """The page."""
    return _HEAD + "".join([_line(row) for row in rows()])


def _line(row: Row) -> str:
    why = row.reason
    if row.harmless:
        values = ", ".join([f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in row.harmless])
        why += f" ({values} may be given)"
    return f"| `{row.path}` | {row.status} | {why} |\n"


def write_page(module: str, text: str, arguments: list[str]) -> int:
    """Writes the page to the file named by the one argument, or to standard output without any; the exit status."""
    if len(arguments) > 1:
        print(f"usage: python -m {module} [FILE]", file=sys.stderr)
        return 2
    if not arguments:
        print(text, end="")
        return 0
    with open(arguments[0], "w", encoding="utf-8") as page:
        page.write(text)
    return 0


def main(arguments: list[str]) -> int:
    """See `write_page`."""
    return write_page("podlite.api.fields_page", markdown(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
