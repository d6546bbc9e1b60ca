"""Messages for a person, on standard error."""

from __future__ import annotations

import os
import sys

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "dim": 2, "bold": 1}
# For things that are told apart by colour.
CYCLE = ("cyan", "green", "magenta", "yellow", "blue")


def wants_colour(fd: int) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody has said no (https://no-color.org)."""
    return os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, colour: str, *, on: bool) -> str:
    """The text in a colour, if `on`."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if on else text


def error(text: str, *, hint: str = "") -> None:
    """`podlite: TEXT`, and the hint on a line of its own."""
    colour = wants_colour(2)
    for line in text.splitlines() or [""]:
        print(f"{paint('podlite:', 'red', on=colour)} {line}", file=sys.stderr)
    if hint:
        print(f"{paint('hint:', 'dim', on=colour)} {hint}", file=sys.stderr)


def warning(text: str) -> None:
    """`podlite: warning: TEXT`."""
    print(f"{paint('podlite: warning:', 'yellow', on=wants_colour(2))} {text}", file=sys.stderr)


def note(text: str) -> None:
    """A remark that belongs to no output."""
    print(paint(text, "dim", on=wants_colour(2)), file=sys.stderr)
