"""SPDY/3.1: frames as the draft has them, whatever comes, and connections whose two ends are both ours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream
from hypothesis import given
from hypothesis import strategies as st

from podlite.rpc.streaming import spdy_frames as frames
from podlite.rpc.streaming.inbox import LIMIT, Inbox
from podlite.rpc.streaming.spdy import SpdyConnection, SpdyStream
from podlite.rpc.streaming.spdy_frames import DICTIONARY, Frame, FrameReader, FrameWriter, SpdyError
from tests.support.pipes import byte_stream_pair

HEADERS = st.dictionaries(
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"])), max_size=5
)


def test_the_dictionary_is_the_one_of_the_draft() -> None:
    """SPDY/3 draft, 2.6.10.1: 1,423 bytes; their Adler-32 is what Wireshark and spdystream show in each connection."""
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_frames_have_the_layout_of_the_draft() -> None:
    assert frames.ping(1) == bytes.fromhex("80030006 00000004 00000001")
    assert frames.rst_stream(3, frames.CANCEL) == bytes.fromhex("80030003 00000008 00000003 00000005")
    assert frames.goaway(5) == bytes.fromhex("80030007 00000008 00000005 00000000")
    assert frames.window_update(1, 10) == bytes.fromhex("80030009 00000008 00000001 0000000a")
    assert frames.data_frame(1, b"hi", fin=True) == bytes.fromhex("00000001 01000002") + b"hi"
    syn = FrameWriter().syn_stream(1, {"a": "b"})
    assert syn[:4] == bytes.fromhex("80030001")
    assert syn[8:18] == bytes.fromhex("00000001 00000000 0000")
    # A zlib stream with a preset dictionary: its checksum follows the two bytes of the header (RFC 1950, 2.2).
    assert syn[20:24] == bytes.fromhex("e3c6a7c2")


@given(st.lists(HEADERS, min_size=1, max_size=4), st.integers(1, 50))
def test_headers_come_back_in_whatever_pieces(headers: list[dict[str, str]], size: int) -> None:
    writer, reader = FrameWriter(), FrameReader()
    sent = b"".join(writer.syn_stream(2 * n + 1, each) for n, each in enumerate(headers))
    received = [frame for i in range(0, len(sent), size) for frame in reader.feed(sent[i : i + size])]
    assert received == [Frame(frames.SYN_STREAM, 2 * n + 1, headers=each) for n, each in enumerate(headers)]


@given(st.binary(max_size=200), st.booleans(), st.integers(1, 50))
def test_data_comes_back_in_whatever_pieces(data: bytes, fin: bool, size: int) -> None:
    reader = FrameReader()
    sent = frames.data_frame(7, data, fin=fin)
    received = [frame for i in range(0, len(sent), size) for frame in reader.feed(sent[i : i + size])]
    assert b"".join(frame.data for frame in received) == data
    assert [frame.fin for frame in received if frame.fin] == ([True] if fin else [])
    assert received[-1].fin == fin
    assert {frame.stream for frame in received} == {7}


@given(st.binary(max_size=300))
def test_whatever_comes_is_frames_or_an_error(data: bytes) -> None:
    try:
        for frame in FrameReader().feed(data):
            assert isinstance(frame, Frame)
    except SpdyError:
        pass


@given(st.sampled_from([1, 2, 3, 4, 6, 7, 8, 9, 12]), st.binary(max_size=100))
def test_whatever_a_control_frame_contains_is_a_frame_or_an_error(kind: int, payload: bytes) -> None:
    try:
        (frame,) = FrameReader().feed(struct.pack("!HHI", 0x8003, kind, len(payload)) + payload)
        assert frame.type == kind
    except SpdyError:
        pass


def test_headers_that_grow_when_they_are_decompressed_are_refused() -> None:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    value = b"x" * (10 << 20)
    block = struct.pack("!II", 1, 1) + b"a" + struct.pack("!I", len(value)) + value
    compressed = deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)
    payload = struct.pack("!I", 1) + compressed
    with pytest.raises(SpdyError, match="too large"):
        FrameReader().feed(struct.pack("!HHI", 0x8003, frames.SYN_REPLY, len(payload)) + payload)


# --- connections ----------------------------------------------------------------------------------


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[SpdyConnection, MemoryObjectReceiveStream[SpdyStream]]]:
    """A client's connection, and the streams that its server gets."""
    ours, theirs = byte_stream_pair()
    put, get = anyio.create_memory_object_stream[SpdyStream](100)

    async def opened(stream: SpdyStream) -> bool:
        if stream.headers.get("refuse"):
            return False
        put.send_nowait(stream)
        return True

    client = SpdyConnection(ours, server=False)
    server = SpdyConnection(theirs, server=True, on_stream=opened)
    with put, get:
        async with ours, theirs, anyio.create_task_group() as tasks:
            tasks.start_soon(client.serve)
            tasks.start_soon(server.serve)
            yield client, get
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_both_directions_end_separately() -> None:
    async with connected() as (client, streams):
        stream = await client.open({"streamType": "data"})
        other = await streams.receive()
        assert other.headers == {"streamtype": "data"}
        await stream.send(b"question")
        await stream.send_eof()
        assert await other.receive() == b"question"
        with pytest.raises(anyio.EndOfStream):
            await other.receive()
        await other.send(b"answer")
        await other.send_eof()
        assert await stream.receive() == b"answer"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


@pytest.mark.anyio
async def test_a_refused_stream_is_an_error_of_its_own() -> None:
    async with connected() as (client, streams):
        with pytest.raises(anyio.BrokenResourceError):
            await client.open({"refuse": "yes"})
        assert await client.open({"a": "b"})
        assert (await streams.receive()).headers == {"a": "b"}


@pytest.mark.anyio
async def test_a_reset_ends_both_directions() -> None:
    async with connected() as (client, streams):
        stream = await client.open({})
        other = await streams.receive()
        await stream.cancel()
        with pytest.raises(anyio.BrokenResourceError):
            await other.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await other.send(b"too late")


@pytest.mark.anyio
async def test_large_data_arrives_whole_in_both_directions_at_once() -> None:
    data = bytes(range(256)) * 20_000

    async def exchange(stream: SpdyStream) -> bytes:
        received = bytearray()
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                await stream.send(data)
                await stream.send_eof()

            tasks.start_soon(send)
            async for chunk in stream:
                received += chunk
        return bytes(received)

    async with connected() as (client, streams):
        stream = await client.open({})
        other = await streams.receive()
        results: list[bytes] = []
        async with anyio.create_task_group() as tasks:
            for each in (stream, other):

                async def one(each: SpdyStream = each) -> None:
                    results.append(await exchange(each))

                tasks.start_soon(one)
        assert results == [data, data]


@pytest.mark.anyio
async def test_a_stream_number_that_was_used_ends_the_connection() -> None:
    ours, theirs = byte_stream_pair()

    async def opened(stream: SpdyStream) -> bool:
        return True

    server = SpdyConnection(theirs, server=True, on_stream=opened)
    writer = FrameWriter()
    async with ours, theirs:
        await ours.send(writer.syn_stream(3, {}) + writer.syn_stream(1, {}))
        with pytest.raises(SpdyError, match="number 1 after 3"):
            await server.serve()


@pytest.mark.anyio
async def test_what_nobody_reads_holds_back_who_sends() -> None:
    inbox = Inbox()
    await inbox.feed(b"x" * LIMIT)
    with anyio.move_on_after(0) as scope:
        await inbox.feed(b"y")
    assert scope.cancelled_caught
    assert len(await inbox.receive(LIMIT)) == LIMIT
    assert await inbox.receive() == b"y"
    inbox.finish()
    with pytest.raises(anyio.EndOfStream):
        await inbox.receive()
