"""The identifiers that podlite makes up."""

from __future__ import annotations

import os


def new_id() -> str:
    """A sandbox or container id: 64 hexadecimal digits, as every CRI runtime has them."""
    return os.urandom(32).hex()


def new_uid() -> str:
    """A pod's uid: a random UUID (RFC 9562, version 4). Without `uuid`, whose import takes 4 ms."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    x = raw.hex()
    return f"{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:]}"
