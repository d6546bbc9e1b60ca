"""Stop signals: names at the seam (`SIGTERM`, `SIGRTMIN+3`), an enumeration with numbers of its own on the wire."""

from __future__ import annotations

import signal

from podlite.rpc.wire import runtime_pb2 as wire

_DEFAULT = "RUNTIME_DEFAULT"


def signal_name(number: int) -> str:
    """The name of an enumeration's number; empty for the runtime's default and for what is not known."""
    try:
        name = wire.Signal.Name(number)
    except ValueError:
        return ""
    if name == _DEFAULT:
        return ""
    return name.replace("PLUS", "+").replace("MINUS", "-")


def signal_number(name: str) -> int:
    """The enumeration's number of a signal as images and pods write it (SIGTERM, TERM, 15); 0 for nonsense."""
    text = name.upper().strip()
    if text.isdigit():
        try:
            text = signal.Signals(int(text)).name
        except ValueError:
            return 0
    if not text.startswith("SIG"):
        text = f"SIG{text}"
    return int(wire.Signal.DESCRIPTOR.values_by_name[found].number) if (found := _known(text)) else 0


def _known(text: str) -> str:
    name = text.replace("+", "PLUS").replace("-", "MINUS")
    return name if name in wire.Signal.DESCRIPTOR.values_by_name else ""
