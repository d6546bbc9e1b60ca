"""Tables in kubectl's form: columns side by side, three spaces between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, with_header: bool = True) -> str:
    """The lines of a table, each with its newline; empty without rows or header. Pure."""
    lines = [list(header), *map(list, rows)] if with_header else [*map(list, rows)]
    if not lines:
        return ""
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def human_size(size: int) -> str:
    """A number of bytes in three digits: `512 B`, `1.4 MB`, `12.5 MB`, `140 MB`. Powers of 1000, as disks are sold."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    if unit == "B":
        return f"{size} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"
