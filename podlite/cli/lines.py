"""Containers' output on our own streams: byte for byte, or with a label before each line."""

from __future__ import annotations

import sys

from podlite.cli import terminal


class Lines:
    """What several containers print. With labels, every line is whole: a beginning is ended before another's line."""

    def __init__(self, *, labels: bool, merge: bool = False) -> None:
        """`merge` has everything go to standard output, as `kubectl logs` does."""
        self._labels = labels
        self._merge = merge
        self._colours: dict[str, bytes] = {}
        self._unfinished: LineWriter | None = None

    def writer(self, name: str) -> LineWriter:
        """For the output of `name`."""
        return LineWriter(self, self._label(name) if self._labels else b"")

    def _label(self, name: str) -> bytes:
        if name not in self._colours:
            colour = terminal.CYCLE[len(self._colours) % len(terminal.CYCLE)]
            self._colours[name] = f"{terminal.paint(name, colour, on=terminal.wants_colour(1))} ".encode()
        return self._colours[name]

    def write(self, writer: LineWriter, stream: str, data: bytes) -> None:
        """`data` is complete as it is to be seen, but for what is left unfinished by somebody else."""
        if writer.label:
            if self._unfinished is not None and self._unfinished is not writer:
                data = b"\n" + data
                self._unfinished.interrupted()
            self._unfinished = None if data.endswith(b"\n") else writer
        target = sys.stderr.buffer if stream == "stderr" and not self._merge else sys.stdout.buffer
        target.write(data)
        target.flush()


class LineWriter:
    """One container's output."""

    def __init__(self, lines: Lines, label: bytes) -> None:
        self.label = label
        self._lines = lines
        self._at_start = True

    def write(self, stream: str, data: bytes) -> None:
        """Writes what came from `stream`, stdout or stderr."""
        if not data:
            return
        if self.label:
            start = self.label if self._at_start else b""
            self._at_start = data.endswith(b"\n")
            body = data.removesuffix(b"\n").replace(b"\n", b"\n" + self.label)
            data = start + body + (b"\n" if self._at_start else b"")
        self._lines.write(self, stream, data)

    def interrupted(self) -> None:
        """Somebody else has ended our unfinished line: what follows of it is a line of its own."""
        self._at_start = True

    def end(self) -> None:
        """A labelled last line without an end gets one, for somebody else's follows."""
        if self.label and not self._at_start:
            self._at_start = True
            self._lines.write(self, "stdout", b"\n")
