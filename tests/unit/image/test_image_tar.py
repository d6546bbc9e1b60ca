"""The tar reader against archives that Python's tarfile and GNU tar write, and against noise."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.runtime.image.tar import DIRECTORY, REGULAR, SYMLINK, Entry, TarError, TarReader
from tests.support.images import Dir, File, Symlink, layer_tar


def pieces(raw: bytes, size: int = 700) -> Iterator[bytes]:
    """An odd size, so that headers and data lie across pieces."""
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


def read_all(raw: bytes, size: int = 700) -> list[tuple[Entry, bytes]]:
    reader = TarReader(pieces(raw, size))
    found = []
    while (entry := reader.next_entry()) is not None:
        found.append((entry, b"".join(bytes(piece) for piece in reader.data())))
    reader.drain()
    return found


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_is_read(format: int) -> None:
    raw = layer_tar(
        {
            "etc/": Dir(0o2755, uid=7, gid=8, mtime=1_500_000_000),
            "etc/a": File(b"x" * 1300, mode=0o4755, uid=1000, gid=1001),
            "etc/l": Symlink("../a"),
        },
        format=format,
    )
    (etc, _), (a, content), (link, _) = read_all(raw)
    assert (etc.name.rstrip(b"/"), etc.type, etc.mode, etc.uid, etc.gid) == (b"etc", DIRECTORY, 0o2755, 7, 8)
    assert etc.mtime == 1_500_000_000 * 10**9
    assert (a.name, a.type, a.mode, a.uid, a.gid, a.size) == (b"etc/a", REGULAR, 0o4755, 1000, 1001, 1300)
    assert content == b"x" * 1300
    assert (link.type, link.link) == (SYMLINK, b"../a")


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_ids(format: int) -> None:
    name = "d/" * 120 + "ä" * 60
    raw = layer_tar({name: File(b"1", uid=3_000_000_000), "l": Symlink("t/" * 200)}, format=format)
    (entry, content), (link, _) = read_all(raw)
    assert (entry.name, entry.uid, content) == (name.encode(), 3_000_000_000, b"1")
    assert link.link == b"t/" * 200


def test_pax_keeps_parts_of_seconds_and_attributes() -> None:
    node = File(b"", mtime=1_600_000_000.25, xattrs={"security.capability": b"\x01\x00\x00\x02\n=\xff"})
    ((entry, _),) = read_all(layer_tar({"f": node}))
    assert entry.mtime == 1_600_000_000_250_000_000
    assert entry.xattrs == {"security.capability": b"\x01\x00\x00\x02\n=\xff"}


def test_an_archive_may_end_without_its_zero_blocks() -> None:
    raw = layer_tar({"f": b"1"})
    assert [entry.name for entry, _ in read_all(raw[:1024])] == [b"f"]
    assert read_all(b"") == []


def test_what_follows_the_end_is_read_and_not_looked_at() -> None:
    assert [entry.name for entry, _ in read_all(layer_tar({"f": b"1"}) + b"garbage" * 500)] == [b"f"]


@pytest.mark.parametrize("length", [1, 511, 513, 1023])
def test_a_cut_archive_is_an_error(length: int) -> None:
    with pytest.raises(TarError, match="cut short"):
        read_all(layer_tar({"f": b"1" * 600})[:length])


def test_a_wrong_checksum_is_an_error() -> None:
    raw = bytearray(layer_tar({"f": b"1"}, format=tarfile.USTAR_FORMAT))
    raw[0] ^= 1
    with pytest.raises(TarError, match="wrong checksum"):
        read_all(bytes(raw))


def test_signed_checksums_of_old_archives_are_accepted() -> None:
    block = bytearray(layer_tar({"f": b""}, format=tarfile.USTAR_FORMAT)[:512])
    block[1] = 0xE4
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = f"{signed:06o}\0 ".encode()
    assert read_all(bytes(block))[0][0].name == b"f\xe4"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"9 path=\n", "bad PAX record"),
        (b"99999 path=x\n", "bad PAX record"),
        (b"x path=x\n", "bad PAX record"),
        (b"11 size=-1\n", "bad size"),
        (b"12 mtime=1x\n", "bad time"),
    ],
)
def test_bad_pax_records_are_errors(record: bytes, message: str) -> None:
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = len(record)
    raw = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + layer_tar({"f": b""})
    with pytest.raises(TarError, match=message):
        read_all(raw)


def test_an_enormous_header_is_refused_before_it_is_read() -> None:
    header = tarfile.TarInfo("long")
    header.type = tarfile.GNUTYPE_LONGNAME
    header.size = 1 << 32
    with pytest.raises(TarError, match="limit"):
        read_all(header.tobuf(tarfile.GNU_FORMAT))


SPARSE = [["--format=gnu"], *(["--format=posix", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("options", SPARSE, ids=lambda options: options[-1])
def test_sparse_files_of_gnu_tar(tmp_path: Path, options: list[str]) -> None:
    """30 pieces of data, more than an old GNU header and its first extension hold."""
    with (tmp_path / "sparse").open("wb") as file:
        for number in range(30):
            file.seek(number * 1_000_000)
            file.write(f"piece {number}".encode())
        file.truncate(40_000_000)
    subprocess.run(["tar", "--sparse", *options, "-cf", "out.tar", "sparse"], cwd=tmp_path, check=True)
    ((entry, data),) = read_all((tmp_path / "out.tar").read_bytes())
    assert entry.name == b"sparse"
    assert entry.real_size == 40_000_000
    assert entry.sparse is not None
    whole = bytearray(entry.real_size)
    position = 0
    for offset, length in entry.sparse:
        whole[offset : offset + length] = data[position : position + length]
        position += length
    assert bytes(whole) == (tmp_path / "sparse").read_bytes()


@given(
    st.lists(
        st.tuples(
            st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1),
            st.binary(max_size=2000),
        ),
        max_size=5,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 3000),
)
def test_what_tarfile_writes_is_what_is_read(members: list[tuple[str, bytes]], format: int, piece_size: int) -> None:
    # A regular file whose name ends with a slash is a directory in tar.
    members = [(name.rstrip("/") or "x", content) for name, content in members]
    found = read_all(layer_tar(members, format=format), piece_size)
    assert [(os.fsdecode(entry.name), content) for entry, content in found] == members


_BASE = layer_tar(
    {"a": b"1" * 100, "b/": Dir(), "l": Symlink("x" * 150), "ä" * 80: File(b"2", xattrs={"user.x": b"y"})}
)


@given(st.lists(st.tuples(st.integers(0, len(_BASE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_archive_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(_BASE)
    for position, value in changes:
        raw[position] = value
    try:
        for entry, data in read_all(bytes(raw)):
            assert len(data) == entry.size
    except TarError as error:
        assert str(error)


@given(st.binary(max_size=2048))
def test_noise_is_refused(raw: bytes) -> None:
    try:
        assert all(len(data) == entry.size for entry, data in read_all(raw))
    except TarError as error:
        assert str(error)


def test_skipping_over_data_keeps_count() -> None:
    """As an archive's members are found without reading them."""
    raw = layer_tar({"a": b"1" * 5000, "b": b"22"})
    file = io.BytesIO(raw)

    def source() -> Iterator[bytes]:
        while piece := file.read(600):
            yield piece

    def skip(size: int) -> None:
        file.seek(size, os.SEEK_CUR)

    reader = TarReader(source(), skip=skip)
    found = {}
    while (entry := reader.next_entry()) is not None:
        found[entry.name] = raw[reader.offset : reader.offset + entry.size]
    assert found == {b"a": b"1" * 5000, b"b": b"22"}
