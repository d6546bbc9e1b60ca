"""Decompression as a stream, with its digests, its limits, and what it says about damage."""

from __future__ import annotations

import gzip
import hashlib
import io
import random

import pytest

from podlite.cri.errors import ImageError
from podlite.runtime.image.decompress import CHUNK, DecodedStream, detect_compression
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.read_ahead import ReadAhead
from tests.support.images import compress, sha256

DATA = random.Random(1).randbytes(200_000) + b"\0" * 3_000_000 + b"end"

# zstd comes from an optional package; its frames here have no checksum, so that only the digests tell damage.
CHECKED = ["gzip", "bzip2", "xz"]
COMPRESSED = [*CHECKED, "zstd"]
ALL = ["none", *COMPRESSED]


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "zstd":
        pytest.importorskip("zstandard")
    return str(request.param)


def kinds(names: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", names, indirect=True)


def decode(raw: bytes, limits: Limits | None = None, step: int = 10_000) -> tuple[bytes, DecodedStream]:
    file = io.BytesIO(raw)
    stream = DecodedStream(lambda size: file.read(min(size, step)), limits or Limits(), "the layer")
    pieces = list(stream)
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    return b"".join(pieces), stream


@kinds(ALL)
def test_both_sides_are_hashed_and_counted(kind: str) -> None:
    raw = compress(DATA, kind)
    plain, stream = decode(raw)
    assert plain == DATA
    assert stream.compression == kind == detect_compression(raw)
    assert (stream.digest, stream.diff_id) == (sha256(raw), sha256(DATA))
    assert (stream.size, stream.plain_size) == (len(raw), len(DATA))


@kinds(COMPRESSED)
def test_members_may_follow_one_another_and_be_padded(kind: str) -> None:
    padding = b"" if kind == "zstd" else b"\0" * 700
    plain, _ = decode(compress(DATA, kind) + compress(b"more", kind) + padding)
    assert plain == DATA + b"more"


@kinds(CHECKED)
@pytest.mark.parametrize("cut", [12, 5000])
def test_a_cut_stream_is_an_error(kind: str, cut: int) -> None:
    with pytest.raises(ImageError, match=r"the layer is cut short: its .* data ends in the middle"):
        decode(compress(DATA, kind)[:-cut])


@kinds(CHECKED)
def test_damage_is_an_error(kind: str) -> None:
    raw = bytearray(compress(DATA, kind))
    raw[len(raw) // 2 : len(raw) // 2 + 50] = b"\xff" * 50
    with pytest.raises(ImageError, match="the layer is damaged"):
        decode(bytes(raw))


def test_garbage_after_a_member_is_an_error() -> None:
    with pytest.raises(ImageError, match="the layer is damaged"):
        decode(gzip.compress(b"x") + b"garbage")


@kinds(COMPRESSED)
def test_a_bomb_stops_at_the_ratio(kind: str) -> None:
    raw = compress(b"\0" * 30_000_000, kind)
    with pytest.raises(ImageError, match="decompression bomb"):
        decode(raw, Limits(max_ratio=100, ratio_floor=1_000_000))
    # Below the floor any ratio is honest.
    assert len(decode(raw, Limits(max_ratio=100, ratio_floor=40_000_000))[0]) == 30_000_000


@kinds(ALL)
def test_the_size_limit_holds_for_plain_data_too(kind: str) -> None:
    with pytest.raises(ImageError, match="more than 1000000 bytes"):
        decode(compress(DATA, kind), Limits(max_bytes=1_000_000))


def test_nothing_is_nothing() -> None:
    plain, stream = decode(b"")
    assert plain == b""
    assert stream.diff_id == f"sha256:{hashlib.sha256().hexdigest()}"


def test_read_ahead_passes_on_pieces_and_failures_in_their_place() -> None:
    def source() -> object:
        yield from (b"1", b"2")
        raise OSError("no more")

    with ReadAhead(source()) as pieces:  # type: ignore[arg-type]
        assert (next(pieces), next(pieces)) == (b"1", b"2")
        with pytest.raises(OSError, match="no more"):
            next(pieces)


def test_read_ahead_ends_with_its_context() -> None:
    produced = []

    def source() -> object:
        while True:
            produced.append(1)
            yield b"x"

    with ReadAhead(source()) as pieces:  # type: ignore[arg-type]
        next(pieces)
        thread = pieces._thread
    assert not thread.is_alive()
    assert len(produced) < 30
