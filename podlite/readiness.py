"""anyio's wait_readable, wait_writable and notify_closing, without the module that has them.

That one is about sockets, and imports ssl: 10 ms that a small pod need not wait for (see podlite.late_imports). These
are what its functions do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio._core._eventloop import get_async_backend

if TYPE_CHECKING:
    from collections.abc import Awaitable


def wait_readable(file: Any) -> Awaitable[None]:
    """See anyio.wait_readable; `file` is a descriptor, or has one."""
    return get_async_backend().wait_readable(file)


def wait_writable(file: Any) -> Awaitable[None]:
    """See anyio.wait_writable."""
    return get_async_backend().wait_writable(file)


def notify_closing(file: Any) -> None:
    """See anyio.notify_closing."""
    get_async_backend().notify_closing(file)
