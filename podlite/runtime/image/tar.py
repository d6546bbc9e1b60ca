"""A streaming reader of tar archives: headers into entries, data into pieces. Pure; it touches no file.

Understood: v7, ustar, PAX (per-entry records; global ones are skipped, as containerd does) and GNU (long
names, base-256 numbers, sparse files in the old form and PAX 0.0, 0.1 and 1.0). Names are bytes throughout:
tar says nothing of their encoding.

Sources: POSIX.1-2024 pax, and the GNU tar manual's "Basic Tar Format" and "Sparse Formats".
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from podlite.runtime.image.limits import MAX_TAR_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
_ZERO_BLOCK = bytes(BLOCK)

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"

# Typeflags of what has no data, whatever its size field says (as Go's archive/tar and Python's tarfile read it).
_HEADER_ONLY = frozenset((HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_REGULAR = frozenset((b"0", b"\0", b"7"))
_XATTR = "SCHILY.xattr."


class TarError(ValueError):
    """The archive is not well-formed; the message is the rest of a sentence that names it."""


class Entry:
    """One member. `size` is that of the data in the archive, `real_size` that of the file (they differ for sparse
    files); `sparse` is the list of (offset, length) that the data fills, or None; times are nanoseconds."""

    __slots__ = (
        "gid",
        "link",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "real_size",
        "size",
        "sparse",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.type = REGULAR
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.real_size = 0
        self.mtime = 0
        self.link = b""
        self.major = 0
        self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


class TarReader:
    """Reads an archive from an iterator over pieces of bytes. `skip(n)`, where the source can do that, makes it go on
    n bytes later; `offset` is the position in the archive.

    `next_entry` moves to the next member, over what is left of the data of the last one; `data` yields the
    current member's data. Both raise TarError, and whatever the iterator raises.
    """

    def __init__(self, pieces: Iterator[bytes], *, skip: Callable[[int], None] | None = None) -> None:
        self._pieces = pieces
        self._skip_source = skip
        self._buffer = b""
        self._position = 0
        self._left = 0
        self._padding = 0
        self.offset = 0

    def next_entry(self) -> Entry | None:
        """The next member, or None at the end of the archive. Raises TarError."""
        records: dict[str, bytes] = {}
        holes: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            block = self._take(BLOCK, end_allowed=True)
            if not block or block == _ZERO_BLOCK:
                if records or long_name is not None or long_link is not None:
                    raise TarError("ends with a header that describes no member")
                return None
            _check_sum(block)
            kind = block[156:157]
            size = _number(block[124:136], "size")
            if kind in b"xgXLK":
                if size > MAX_TAR_HEADER:
                    raise TarError(f"has a header of {size} bytes; the limit is {MAX_TAR_HEADER}")
                content = self._take(size)
                self._skip(-size % BLOCK)
                if kind == b"L":
                    long_name = content.rstrip(b"\0")
                elif kind == b"K":
                    long_link = content.rstrip(b"\0")
                elif kind != b"g":
                    _read_pax(content, records, holes)
                continue
            if kind == b"V":
                self._padding = size + -size % BLOCK
                continue
            return self._member(block, kind, size, records, holes, long_name, long_link)

    def data(self) -> Iterator[memoryview]:
        """The current member's data in pieces, once. Raises TarError if the archive ends before it does."""
        while self._left:
            if self._position == len(self._buffer):
                self._refill()
            piece = memoryview(self._buffer)[self._position : self._position + self._left]
            self._position += len(piece)
            self.offset += len(piece)
            self._left -= len(piece)
            yield piece

    def drain(self) -> None:
        """Reads what follows the end of the archive, so that digests cover all of it."""
        self._buffer = b""
        self._position = 0
        for piece in self._pieces:
            self.offset += len(piece)

    # --- bytes ---

    def _refill(self) -> None:
        try:
            self._buffer = next(self._pieces)
        except StopIteration:
            raise TarError(f"is cut short at byte {self.offset}") from None
        self._position = 0

    def _take(self, size: int, *, end_allowed: bool = False) -> bytes:
        """Exactly `size` bytes; where the end is allowed, none if there is nothing more at all."""
        end = self._position + size
        taken = self._buffer[self._position : end]
        if len(taken) == size:
            self._position = end
            self.offset += size
            return taken
        missing = size - len(taken)
        parts = [taken]
        self._buffer, self._position = b"", 0
        while missing:
            try:
                self._buffer = next(self._pieces)
            except StopIteration:
                if end_allowed and missing == size:
                    return b""
                raise TarError(f"is cut short at byte {self.offset}") from None
            self._position = min(missing, len(self._buffer))
            parts.append(self._buffer[: self._position])
            missing -= self._position
        self.offset += size
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        if self._skip_source is not None and size > len(self._buffer) - self._position:
            self.offset += size
            self._skip_source(size - (len(self._buffer) - self._position))
            self._buffer, self._position = b"", 0
            return
        while size:
            if self._position == len(self._buffer):
                self._refill()
            step = min(size, len(self._buffer) - self._position)
            self._position += step
            self.offset += step
            size -= step

    # --- members ---

    def _member(
        self,
        block: bytes,
        kind: bytes,
        size: int,
        records: dict[str, bytes],
        holes: list[tuple[bytes, bytes]],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        entry = Entry()
        name = block[:100].partition(b"\0")[0]
        if block[257:263] == b"ustar\0" and block[345]:
            # ustar only: GNU keeps other things where ustar has the prefix.
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        entry.name = name if long_name is None else long_name
        entry.link = block[157:257].partition(b"\0")[0] if long_link is None else long_link
        entry.mode = _number(block[100:108], "mode") & 0o7777
        entry.uid = _number(block[108:116], "uid")
        entry.gid = _number(block[116:124], "gid")
        entry.mtime = _number(block[136:148], "mtime", signed=True) * 1_000_000_000
        if records or holes:
            size = _apply_pax(entry, size, records, holes)
        if kind in _REGULAR:
            # Before POSIX a directory was a regular file whose name ends with a slash.
            kind = DIRECTORY if entry.name.endswith(b"/") and kind != b"7" else REGULAR
        entry.type = kind
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major = _number(block[329:337], "device number")
            entry.minor = _number(block[337:345], "device number")
        if kind in _HEADER_ONLY:
            size = 0
        self._padding = -size % BLOCK
        self._left = size
        if kind == b"S":
            entry.type = REGULAR
            entry.real_size = _number(block[483:495], "sparse file's size")
            entry.sparse = self._old_gnu_sparse(block)
        elif "GNU.sparse.major" in records:
            self._pax_sparse_1(records, entry)
        elif entry.sparse is None:
            entry.real_size = size
        entry.size = self._left
        if entry.sparse is not None:
            _check_sparse(entry)
        return entry

    def _old_gnu_sparse(self, block: bytes) -> list[tuple[int, int]]:
        pairs = _sparse_pairs(block[386:482], 4)
        extended = block[482]
        while extended:
            block = self._take(BLOCK)
            pairs += _sparse_pairs(block, 21)
            extended = block[504]
            if len(pairs) * 24 > MAX_TAR_HEADER:
                raise TarError("has a sparse file with too many pieces")
        return pairs

    def _pax_sparse_1(self, records: dict[str, bytes], entry: Entry) -> None:
        """The map is at the beginning of the data: decimal numbers, one per line, padded to a block."""
        if records["GNU.sparse.major"] != b"1":
            raise TarError(f"has a sparse file of an unknown version for {shown(entry.name)}")
        entry.real_size = _decimal(records.get("GNU.sparse.realsize", b""), "sparse file's size")
        text = b""
        wanted = None
        while wanted is None or text.count(b"\n") < wanted:
            if self._left < BLOCK or len(text) > MAX_TAR_HEADER:
                raise TarError(f"has a bad sparse map for {shown(entry.name)}")
            text += self._take(BLOCK)
            self._left -= BLOCK
            if wanted is None and b"\n" in text:
                wanted = 1 + 2 * _decimal(text.partition(b"\n")[0], "sparse map")
        numbers = [_decimal(line, "sparse map") for line in text.split(b"\n")[1:wanted]]
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))


def shown(name: bytes) -> str:
    """A name out of an archive for a message: quoted, control characters escaped, never long."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else f"{text[:200]}…")


def _check_sum(block: bytes) -> None:
    """The header's checksum, its own field taken as spaces, with signed or unsigned bytes.

    adler32's lower half is 1 + the sum of the bytes modulo 65521, and 20 times faster than sum().
    """
    stated = _number(block[148:156], "checksum")
    field = sum(block[148:156])
    if ((zlib.adler32(block) & 0xFFFF) - 1 - field + 256 - stated) % 65521 == 0:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    if signed != stated:
        raise TarError("has a header with a wrong checksum")


def _number(field: bytes, what: str, *, signed: bool = False) -> int:
    """A numeric field: octal digits, or base 256 when the first byte's highest bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if value < 0 and not signed:
            raise TarError(f"has a header with a negative {what}")
        return value
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise TarError(f"has a header with a bad {what}")


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarError(f"has a header with a bad {what}")
    return int(text)


def _read_pax(content: bytes, records: dict[str, bytes], holes: list[tuple[bytes, bytes]]) -> None:
    """Records `LENGTH KEY=VALUE\\n`, where LENGTH counts all of it."""
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 9)
        digits = content[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise TarError("has a bad PAX record")
        end = position + int(digits)
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if end > len(content) or end <= space or not key or not equals or content[end - 1 : end] != b"\n":
            raise TarError("has a bad PAX record")
        position = end
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            holes.append((key, value))
        else:
            records[key.decode("utf-8", "surrogateescape")] = value


def _apply_pax(entry: Entry, size: int, records: dict[str, bytes], holes: list[tuple[bytes, bytes]]) -> int:
    """Applies the records to the entry; returns the size of its data. An empty value means the header's own."""
    for key, value in records.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value
        elif not value:
            continue
        elif key == "path":
            entry.name = value
        elif key == "linkpath":
            entry.link = value
        elif key == "size":
            size = _decimal(value, "size")
        elif key == "uid":
            entry.uid = _decimal(value, "uid")
        elif key == "gid":
            entry.gid = _decimal(value, "gid")
        elif key == "mtime":
            entry.mtime = _nanoseconds(value)
    if "GNU.sparse.name" in records:
        entry.name = records["GNU.sparse.name"]
    if "GNU.sparse.map" in records:
        numbers = [_decimal(number, "sparse map") for number in records["GNU.sparse.map"].split(b",")]
        if len(numbers) % 2:
            raise TarError("has a bad sparse map")
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
    elif holes:
        offsets = [_decimal(value, "sparse map") for key, value in holes if key == b"GNU.sparse.offset"]
        lengths = [_decimal(value, "sparse map") for key, value in holes if key == b"GNU.sparse.numbytes"]
        if len(offsets) != len(lengths):
            raise TarError("has a bad sparse map")
        entry.sparse = list(zip(offsets, lengths, strict=True))
    if entry.sparse is not None:
        entry.real_size = _decimal(records.get("GNU.sparse.size", b""), "sparse file's size")
    return size


def _nanoseconds(text: bytes) -> int:
    """A PAX time: decimal seconds with an optional fraction and sign."""
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    if len(text) > 40 or not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise TarError("has a PAX record with a bad time")
    value = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -value if text.startswith(b"-") else value


def _sparse_pairs(field: bytes, count: int) -> list[tuple[int, int]]:
    pairs = []
    for index in range(count):
        pair = field[24 * index : 24 * index + 24]
        if pair[0] == 0:
            break
        pairs.append((_number(pair[:12], "sparse map"), _number(pair[12:], "sparse map")))
    return pairs


def _check_sparse(entry: Entry) -> None:
    """The pieces must be in order, inside the file, and as long as the data that fills them."""
    assert entry.sparse is not None
    end = 0
    total = 0
    for offset, length in entry.sparse:
        if offset < end or offset + length > entry.real_size:
            raise TarError(f"has a bad sparse map for {shown(entry.name)}")
        end = offset + length
        total += length
    if total != entry.size:
        raise TarError(f"has a sparse map for {shown(entry.name)} that does not fit its data")
