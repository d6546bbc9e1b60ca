"""Blobs that arrive piece by piece: resumable, verified, and visible only when they are whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.cri.errors import ImageError
from podlite.linux.fs import lock_file, sync_directory, write_all
from podlite.runtime.image.failure import storing

if TYPE_CHECKING:
    from podlite.runtime.image.layout import Layout


class PartialBlob:
    """The blob `digest` (`sha256:…`) of `size` bytes, on its way into the store. A context manager.

    Entering waits for whoever is fetching the same blob; `try_open` does not. Then `complete` says that it is there
    already; else `offset` is how many bytes an earlier try left, and the rest is to be written, and committed.
    Leaving without a commit keeps what was written, for the next try. Methods raise ImageError.
    """

    def __init__(self, layout: Layout, digest: str, size: int) -> None:
        if not digest.startswith("sha256:"):
            raise ImageError(f"blob {digest} cannot be stored: its digest is not a sha256")
        self._layout = layout
        self.digest = digest
        self.size = size
        self.offset = 0
        self.complete = False
        name = digest.removeprefix("sha256:")
        self._partial = f"{layout.ingest}/{name}"
        self.path = f"{layout.blobs}/{name}"

    def __enter__(self) -> PartialBlob:
        self._open(wait=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def try_open(self) -> bool:
        """As entering, but False while somebody else is fetching the same blob. What is open is to be closed."""
        return self._open(wait=False)

    def close(self) -> None:
        """What leaving the context does."""
        os.close(self._fd)

    def arrived(self) -> int:
        """How many bytes whoever is fetching the blob has by now."""
        try:
            return os.stat(self._partial).st_size
        except FileNotFoundError:
            return self.size if os.path.exists(self.path) else 0

    def _open(self, *, wait: bool) -> bool:
        import hashlib

        self._hash = hashlib.sha256()
        with storing(self._layout.root, f"storing blob {self.digest}"):
            fd = lock_file(self._partial, wait=wait)
            if fd is None:
                return False
            self._fd = fd
            try:
                self._find_out()
            except BaseException:
                os.close(fd)
                raise
        return True

    def _find_out(self) -> None:
        """What is there already, and its hash so far."""
        # Whoever held the lock before may have finished: the file that we locked is then the blob.
        if os.path.exists(self.path):
            self.complete = True
            if os.fstat(self._fd).st_ino != os.stat(self.path).st_ino:
                os.unlink(self._partial)
            return
        while piece := os.read(self._fd, 1 << 20):
            self._hash.update(piece)
            self.offset += len(piece)
        if self.offset > self.size:
            self.restart()

    def restart(self) -> None:
        """Forgets what an earlier try left, when the server cannot go on from there."""
        import hashlib

        with storing(self._layout.root, f"storing blob {self.digest}"):
            os.truncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.offset = 0

    def write(self, data: bytes) -> None:
        """Appends. More bytes than the blob has are an error, and forgotten."""
        if self.offset + len(data) > self.size:
            self.restart()
            raise ImageError(f"blob {self.digest} should have {self.size} bytes, and more arrived")
        with storing(self._layout.root, f"storing blob {self.digest}"):
            write_all(self._fd, data)
        self._hash.update(data)
        self.offset += len(data)

    def commit(self) -> None:
        """Verifies size and digest, and makes the blob visible, durably. What is wrong is forgotten."""
        if self.offset < self.size:
            raise ImageError(f"blob {self.digest} is cut short: {self.offset} of {self.size} bytes arrived")
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self.digest:
            self.restart()
            raise ImageError(f"blob {self.digest} is damaged: what arrived has the digest {found}")
        with storing(self._layout.root, f"storing blob {self.digest}"):
            os.fsync(self._fd)
            os.rename(self._partial, self.path)
            sync_directory(os.path.dirname(self.path))
        self.complete = True
