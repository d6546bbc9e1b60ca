"""How far a pull is: a bar for each layer on a terminal, a line for each layer elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TextIO

from podlite.cli.table import human_size
from podlite.runtime.image.registry.progress import DONE, DOWNLOADED, DOWNLOADING, EXISTS, LayerState, Silence

if TYPE_CHECKING:
    from typing import Protocol

    from podlite.runtime.image.registry.progress import Progress

    class Display(Progress, Protocol):
        """A progress that is shown for as long as its context lasts."""

        def __enter__(self) -> Display: ...

        def __exit__(self, *error: object) -> None: ...


_SHORT = 12
_BAR = "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}B/{total_fmt}B"


def open_progress(name: str, stream: TextIO) -> Display:
    """What fits the stream."""
    bars = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    # A terminal that does not know its width has no room for bars.
    bars = bars and os.get_terminal_size(stream.fileno()).columns > 0
    return Bars(name, stream) if bars else Lines(name, stream)


class Quiet(Silence):
    """Nothing at all."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""


class Lines:
    """A line when an image is known, and one for each layer that has come."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._told: set[str] = set()

    def __enter__(self) -> Lines:
        self._say(f"Pulling {self._name}")
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held."""

    def resolved(self, digest: str, layers: list[LayerState]) -> None:
        """Says which layers are there already, or that all is."""
        if not layers:
            self._say("Image is up to date")
        for layer in layers:
            if layer.stage == EXISTS:
                self.changed(layer)

    def changed(self, layer: LayerState) -> None:
        """Says of each layer once that it is there."""
        if layer.stage in (EXISTS, DOWNLOADED, DONE) and layer.digest not in self._told:
            self._told.add(layer.digest)
            self._say(f"{_short(layer)}: {layer.stage} ({human_size(layer.size)})")

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bars:
    """A bar for each layer, one below the other; what does not fit on the terminal is not drawn."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._bars: dict[str, Any] = {}
        self._stages: dict[str, str] = {}

    def __enter__(self) -> Bars:
        print(f"Pulling {self._name}", file=self._stream, flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def resolved(self, digest: str, layers: list[LayerState]) -> None:
        """Draws them all."""
        from tqdm import tqdm

        # No thread that wakes up bars which have not moved: a layer that stands still may be seen to.
        tqdm.monitor_interval = 0
        if not layers:
            print("Image is up to date", file=self._stream, flush=True)
        for place, layer in enumerate(layers):
            self._bars[layer.digest] = tqdm(
                total=layer.size,
                initial=layer.offset,
                desc=_description(layer),
                position=place,
                leave=True,
                file=self._stream,
                bar_format=_BAR,
                unit_scale=True,
                dynamic_ncols=True,
            )
            self._draw(layer)

    def changed(self, layer: LayerState) -> None:
        """Draws one, at most ten times a second as long as it only grows."""
        bar = self._bars.get(layer.digest)
        if bar is None:
            return
        if layer.stage != self._stages.get(layer.digest) or layer.offset < bar.n:
            self._draw(layer)
        elif layer.stage == DOWNLOADING:
            bar.update(layer.offset - bar.n)

    def _draw(self, layer: LayerState) -> None:
        bar = self._bars[layer.digest]
        self._stages[layer.digest] = layer.stage
        bar.n = layer.offset
        bar.set_description_str(_description(layer), refresh=True)


def _description(layer: LayerState) -> str:
    return f"{_short(layer)} {layer.stage:13}"


def _short(layer: LayerState) -> str:
    return layer.digest.removeprefix("sha256:")[:_SHORT]
