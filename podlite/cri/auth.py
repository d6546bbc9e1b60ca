"""The one encoded field of an AuthConfig, which docker's configuration files have too."""

from __future__ import annotations


def decode_auth(text: str) -> tuple[str, str]:
    """(user name, password) of `base64(name:password)`, padded or not.

    docker pads the password with zero bytes; those are taken off, as containerd does. Raises ValueError.
    """
    import base64

    bare = text.strip().rstrip("=")
    # binascii.Error and UnicodeDecodeError are ValueErrors.
    name, colon, password = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode().partition(":")
    if not colon:
        raise ValueError("it must be the base64 form of `name:password`")
    return name, password.strip("\0")
