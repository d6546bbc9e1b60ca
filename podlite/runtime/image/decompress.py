"""A layer's bytes as a stream: decompressed, hashed on both sides and measured while it is read.

Compression is recognised by its first bytes and not by a media type, as archives often have none or a wrong
one: gzip, zstd, bzip2, xz, or none. gzip members and zstd frames may follow one another (pigz, eStargz).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from podlite.cri.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podlite.runtime.image.limits import Limits

    Read = Callable[[int], bytes]

CHUNK = 1 << 20
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW = 1 << 27

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


def detect_compression(start: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz`, or `none`, by the first six bytes."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    return "none"


class DecodedStream:
    """An iterator over the plain bytes, in pieces of at most `CHUNK` bytes, of what `read` returns.

    `read(n)` returns up to n bytes, and nothing at the end. After the last piece `digest` and `diff_id` are
    the sha256 of the bytes as they came in and as they went out, `size` and `plain_size` how many they were.
    Raises ImageError for damaged data and beyond the limits; `what` names the stream in the message.
    """

    def __init__(self, read: Read, limits: Limits, what: str) -> None:
        import hashlib

        self._read = read
        self._limits = limits
        self._what = what
        self._outer = hashlib.sha256()
        self.size = 0
        self.plain_size = 0
        start = self._more()
        self.compression = detect_compression(start)
        # Where nothing is compressed both digests are one, and hashing is half of the work.
        self._inner = self._outer if self.compression == "none" else hashlib.sha256()
        self._pieces = self._decode(start)

    @property
    def digest(self) -> str:
        return f"sha256:{self._outer.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._inner.hexdigest()}"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self.plain_size += len(piece)
        if self._inner is not self._outer:
            self._inner.update(piece)
        limits = self._limits
        if self.plain_size > limits.max_bytes:
            raise ImageError(
                f"{self._what} unpacks to more than {limits.max_bytes} bytes, which is the limit",
                hint="raise the limit if the image is to be trusted",
            )
        if self.plain_size > limits.ratio_floor and self.plain_size > self.size * limits.max_ratio:
            raise ImageError(
                f"{self._what} looks like a decompression bomb: {self.size} bytes became {self.plain_size} "
                f"and more, over {limits.max_ratio} times as many",
                hint="raise the limit if the image is to be trusted",
            )
        return piece

    def _more(self) -> bytes:
        data = self._read(CHUNK)
        self.size += len(data)
        self._outer.update(data)
        return data

    def _decode(self, start: bytes) -> Iterator[bytes]:
        if self.compression == "none":
            return self._plain(start)
        if self.compression == "gzip":
            return self._gzip(start)
        if self.compression == "zstd":
            return self._zstd(start)
        return self._members(start, *_codec(self.compression))

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._more()

    def _gzip(self, data: bytes) -> Iterator[bytes]:
        decoder = zlib.decompressobj(31)
        while True:
            try:
                piece = decoder.decompress(data, CHUNK)
            except zlib.error as error:
                raise self._damaged(error) from error
            data = decoder.unconsumed_tail
            if piece:
                yield piece
            if decoder.eof:
                data = self._next_member(decoder.unused_data)
                if not data:
                    return
                decoder = zlib.decompressobj(31)
            elif not data and len(piece) < CHUNK:
                data = self._more()
                if not data:
                    raise self._truncated()

    def _zstd(self, start: bytes) -> Iterator[bytes]:
        import importlib

        try:
            module = importlib.import_module("compression.zstd")  # Python 3.14
        except ImportError:
            return self._zstandard(start)
        window = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW.bit_length() - 1}
        return self._members(start, lambda: module.ZstdDecompressor(options=window), module.ZstdError)

    def _zstandard(self, start: bytes) -> Iterator[bytes]:
        import importlib

        try:
            module = importlib.import_module("zstandard")
        except ImportError:
            raise ImageError(
                f"{self._what} is compressed with zstd, which this Python cannot decompress by itself",
                hint="install the zstandard package, or use Python 3.14",
            ) from None
        decoder = module.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        # A cut-off frame is no error to this reader; the digests tell.
        reader = decoder.stream_reader(_Reader(start, self._more), read_across_frames=True)
        while True:
            try:
                piece = reader.read(CHUNK)
            except module.ZstdError as error:
                raise self._damaged(error) from error
            if not piece:
                return
            yield piece

    def _members(self, data: bytes, new_decoder: Callable[[], Any], failure: type[Exception]) -> Iterator[bytes]:
        """bz2, lzma and Python 3.14's compression.zstd share one interface."""
        decoder = new_decoder()
        while True:
            try:
                piece = decoder.decompress(data, CHUNK)
            except failure as error:
                raise self._damaged(error) from error
            data = b""
            if piece:
                yield piece
            if decoder.eof:
                data = self._next_member(decoder.unused_data)
                if not data:
                    return
                decoder = new_decoder()
            elif decoder.needs_input:
                data = self._more()
                if not data:
                    raise self._truncated()

    def _next_member(self, data: bytes) -> bytes:
        """The beginning of the member that follows, without the zeros that some tools pad with, or nothing."""
        data = data.lstrip(b"\0")
        while not data:
            more = self._more()
            if not more:
                return b""
            data = more.lstrip(b"\0")
        return data

    def _damaged(self, error: Exception) -> ImageError:
        return ImageError(f"{self._what} is damaged: its {self.compression} data cannot be decompressed: {error}")

    def _truncated(self) -> ImageError:
        return ImageError(f"{self._what} is cut short: its {self.compression} data ends in the middle")


def _codec(compression: str) -> tuple[Callable[[], Any], type[Exception]]:
    if compression == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, OSError
    import lzma

    return lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), lzma.LZMAError


class _Reader:
    """What was read already, and then the rest, as an object with `read`."""

    def __init__(self, start: bytes, more: Callable[[], bytes]) -> None:
        self._data = start
        self._more = more

    def read(self, size: int) -> bytes:
        if not self._data:
            self._data = self._more()
        piece, self._data = self._data[:size], self._data[size:]
        return piece
