"""SPDY/3.1 on the wire: frames and their compressed headers, as far as Kubernetes uses them. Pure.

No kept Python library speaks it; kubelets, crictl and kubectl still do. Source: "SPDY Protocol - Draft 3.1"
(chromium.org), sections 2.2 and 2.6; the section of each layout is beside it.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
DATA = 0
FLAG_FIN = 0x01

# 2.6.3: the reasons of RST_STREAM that are used here.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5

VERSION = 3
# What a control frame may have here; the protocol would allow 16 MiB, and a peer could make us hold them.
MAX_CONTROL = 64 << 10
# What headers may have when decompressed.
MAX_HEADERS = 64 << 10
# Larger data frames are received, in pieces; this is what is sent.
MAX_DATA = 32 << 10

# 2.6.10.1: the dictionary that both sides' compressors begin with; its Adler-32, e3c6a7c2, is in every first header.
_PLAIN_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_WORDS = [*_PLAIN_WORDS.split(), "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset="
    "iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(word)) + word.encode() for word in _WORDS) + _TEXT.encode()

Headers = dict[str, str]


class SpdyError(Exception):
    """The peer sent what is no SPDY/3.1, or more than is accepted; the connection cannot go on."""


class Frame(NamedTuple):
    """A frame; for DATA `fin` is on the last piece only. `value` is a status, a ping's id or a window's growth."""

    type: int
    stream: int = 0
    fin: bool = False
    data: bytes = b""
    headers: Headers = {}
    value: int = 0


class FrameReader:
    """Takes bytes in any pieces and gives frames; data frames in pieces too, as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        # A data frame that has begun: its stream, what is still to come of it, and whether it is the stream's last.
        self._stream = 0
        self._left = 0
        self._fin = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises SpdyError."""
        self._buffer += data
        frames: list[Frame] = []
        while True:
            frame = self._data() if self._left else self._next()
            if frame is None:
                return frames
            frames.append(frame)

    def _data(self) -> Frame | None:
        if not self._buffer:
            return None
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(piece)
        return Frame(DATA, self._stream, self._fin and not self._left, piece)

    def _next(self) -> Frame | None:
        # 2.2: a bit for control, then version and type, or the stream; flags; 24 bits of length.
        if len(self._buffer) < 8:
            return None
        first, rest = struct.unpack_from("!II", self._buffer)
        flags, length = rest >> 24, rest & 0xFFFFFF
        if not first >> 31:
            del self._buffer[:8]
            self._stream, self._left, self._fin = first, length, bool(flags & FLAG_FIN)
            return Frame(DATA, first, self._fin) if not length else self._data()
        if first >> 16 != 0x8000 | VERSION:
            raise SpdyError(f"a control frame of version {first >> 16 & 0x7FFF}, not {VERSION}")
        if length > MAX_CONTROL:
            raise SpdyError(f"a control frame of {length} bytes")
        if len(self._buffer) < 8 + length:
            return None
        payload = bytes(self._buffer[8 : 8 + length])
        del self._buffer[: 8 + length]
        return self._control(first & 0xFFFF, bool(flags & FLAG_FIN), payload)

    def _control(self, kind: int, fin: bool, payload: bytes) -> Frame:
        try:
            if kind == SYN_STREAM:
                # 2.6.1: stream, associated stream, priority, slot, headers.
                (stream,) = struct.unpack_from("!I", payload)
                return Frame(kind, stream & 0x7FFFFFFF, fin, headers=self._headers(payload[10:]))
            if kind in (SYN_REPLY, HEADERS):
                (stream,) = struct.unpack_from("!I", payload)
                return Frame(kind, stream & 0x7FFFFFFF, fin, headers=self._headers(payload[4:]))
            if kind in (RST_STREAM, WINDOW_UPDATE):
                stream, value = struct.unpack("!II", payload)
                return Frame(kind, stream & 0x7FFFFFFF, value=value & 0x7FFFFFFF)
            if kind == PING:
                return Frame(kind, value=struct.unpack("!I", payload)[0])
            if kind == GOAWAY:
                stream, value = struct.unpack("!II", payload)
                return Frame(kind, stream & 0x7FFFFFFF, value=value)
        except struct.error:
            raise SpdyError(f"a control frame of type {kind} with {len(payload)} bytes") from None
        # SETTINGS, and whatever else there may be: 2.2.1 says that unknown types are ignored.
        return Frame(kind)

    def _headers(self, block: bytes) -> Headers:
        """2.6.10: a number of pairs, each a name and a value with their lengths before them. NUL separates values."""
        try:
            text = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"headers that cannot be decompressed: {error}") from None
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise SpdyError("headers that are too large")
        headers: Headers = {}
        place = 4
        try:
            (pairs,) = struct.unpack_from("!I", text)
            for _ in range(pairs):
                parts = []
                for _ in range(2):
                    (length,) = struct.unpack_from("!I", text, place)
                    part = text[place + 4 : place + 4 + length]
                    if len(part) < length:
                        raise SpdyError("headers that end too early")
                    parts.append(part)
                    place += 4 + length
                headers[parts[0].decode("latin-1").lower()] = parts[1].decode("utf-8", "replace")
        except struct.error:
            raise SpdyError("headers that end too early") from None
        return headers


class FrameWriter:
    """Makes frames. The headers' compression is one stream per connection: send frames in the order they are made."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def syn_stream(self, stream: int, headers: Headers, *, fin: bool = False) -> bytes:
        return _control(SYN_STREAM, struct.pack("!IIH", stream, 0, 0) + self._block(headers), fin)

    def syn_reply(self, stream: int, headers: Headers, *, fin: bool = False) -> bytes:
        return _control(SYN_REPLY, struct.pack("!I", stream) + self._block(headers), fin)

    def _block(self, headers: Headers) -> bytes:
        parts = [struct.pack("!I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode()):
                parts += [struct.pack("!I", len(text)), text]
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def data_frame(stream: int, data: bytes, *, fin: bool = False) -> bytes:
    """2.2.2."""
    return struct.pack("!II", stream, (FLAG_FIN if fin else 0) << 24 | len(data)) + data


def rst_stream(stream: int, status: int) -> bytes:
    return _control(RST_STREAM, struct.pack("!II", stream, status))


def ping(id: int) -> bytes:
    return _control(PING, struct.pack("!I", id))


def goaway(last_stream: int) -> bytes:
    return _control(GOAWAY, struct.pack("!II", last_stream, 0))


def window_update(stream: int, growth: int) -> bytes:
    return _control(WINDOW_UPDATE, struct.pack("!II", stream, growth))


def _control(kind: int, payload: bytes, fin: bool = False) -> bytes:
    flags = FLAG_FIN if fin else 0
    return struct.pack("!HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload
