"""Text in columns as `kubectl describe` lays it out: cells that end with a tab are as wide as those above and below.

Source: text/tabwriter of Go with a padding of 2, and the prefix writer of kubectl/pkg/describe.
"""

from __future__ import annotations

_PADDING = 2
_INDENT = "  "


class Text:
    """Lines of cells, indented by levels."""

    def __init__(self) -> None:
        self._blocks: list[list[list[str]]] = [[]]

    def line(self, level: int, *cells: str) -> None:
        """A line whose first cell begins `level` steps in. Control characters are shown as `^[`."""
        first, *others = cells or ("",)
        self._blocks[-1].append([_escaped(each) for each in (_INDENT * level + first, *others)])

    def flush(self) -> None:
        """Columns below have nothing to do with those above."""
        self._blocks.append([])

    def __str__(self) -> str:
        return "".join([f"{line}\n" for block in self._blocks for line in _aligned(block)])


def _escaped(text: str) -> str:
    return text.replace("\x1b", "^[").replace("\r", "\\r")


def _aligned(lines: list[list[str]]) -> list[str]:
    """The lines, each cell but the last of a line padded to its column's width there. Pure."""
    result = ["" for _ in lines]
    column = 0
    while any(len(cells) > column for cells in lines):
        start = 0
        while start < len(lines):
            if len(lines[start]) <= column + 1:
                # The last cell of its line is no part of a column, and ends the one above.
                result[start] += lines[start][column] if len(lines[start]) == column + 1 else ""
                start += 1
                continue
            end = start
            while end < len(lines) and len(lines[end]) > column + 1:
                end += 1
            width = max(len(cells[column]) for cells in lines[start:end]) + _PADDING
            for index in range(start, end):
                result[index] += lines[index][column].ljust(width)
            start = end
        column += 1
    return result
