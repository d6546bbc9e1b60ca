"""Image references: `[domain[:port]/]path[:tag][@digest]`, parsed and normalised as docker and containerd do.

The grammar is that of github.com/distribution/reference; so are the error texts, which end up in events
that clients match on. It is written as a scanner rather than as regular expressions, because compiling
those would cost more than everything else that happens between a container's creation and its image.
"""

from __future__ import annotations

from typing import NamedTuple

from podlite.cri.errors import ImageError

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
DEFAULT_TAG = "latest"
NAME_MAX = 255
TAG_MAX = 128

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_LOWER_ALNUM = _LOWER + _DIGITS
_ALNUM = _LOWER_ALNUM + _LOWER.upper()
_HEX = _DIGITS + "abcdef"
_XDIGIT = _HEX + "ABCDEF"
# digits of the encoded part of each algorithm that is available
_DIGEST_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}

_INVALID = "invalid reference format"


class InvalidReferenceError(ValueError):
    """The text is no image reference; the message is distribution/reference's."""


class ImageReference(NamedTuple):
    """A parsed reference. `domain` is empty only for odd names such as `a_b.c/d`, `tag` and `digest` where unstated."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_reference(text: str) -> ImageReference:
    """Parses a reference, with docker.io and library/ filled in; a missing tag stays empty.

    Raises InvalidReferenceError.
    """
    if is_hex_id(text):
        raise InvalidReferenceError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidReferenceError(f"{_INVALID}: repository name ({remote}) must be lowercase")
    whole = f"{domain}/{remainder}"
    parsed = _parse_whole(whole)
    if parsed is None:
        if _parse_whole(whole.lower()) is not None:
            raise InvalidReferenceError("repository name must be lowercase")
        raise InvalidReferenceError(_INVALID)
    if len(parsed.path) > NAME_MAX:
        raise InvalidReferenceError(f"repository name must not be more than {NAME_MAX} characters")
    if parsed.digest:
        check_digest(parsed.digest)
    return parsed


def normalise(text: str) -> str:
    """The one full name of what `text` refers to: a tag gives way to a digest; neither means `latest`.

    Raises InvalidReferenceError.
    """
    parsed = parse_reference(text)
    if parsed.digest:
        return f"{parsed.repository}@{parsed.digest}"
    return f"{parsed.repository}:{parsed.tag or DEFAULT_TAG}"


def apply_default_tag(image: str) -> str:
    """`image` with `:latest` appended where it has neither tag nor digest; short names stay short.

    Raises ImageError, reason InvalidImageName, in the kubelet's words (pkg/kubelet/images, EnsureImageExists).
    """
    try:
        parsed = parse_reference(image)
    except InvalidReferenceError as error:
        quoted = go_quote(image)
        raise ImageError(
            f"Failed to apply default image tag {quoted}: couldn't parse image name {quoted}: {error}",
            reason="InvalidImageName",
        ) from error
    return image if parsed.tag or parsed.digest else f"{image}:{DEFAULT_TAG}"


def digest_reference(names: list[str], asked_for: str) -> str:
    """By which of its names an image in use is told from all others: one by digest, of the repository that was asked
    for if there is such; empty for an image that came from no registry. Pure."""
    by_digest = [name for name in names if "@" in name]
    try:
        wanted = f"{parse_reference(asked_for).repository}@"
    except InvalidReferenceError:
        wanted = ""
    return next((name for name in by_digest if wanted and name.startswith(wanted)), by_digest[0] if by_digest else "")


def is_hex_id(text: str) -> bool:
    """Whether `text` is a full image id without its algorithm: 64 lower-case hexadecimal digits."""
    return len(text) == 64 and not text.strip(_HEX)


def is_id_prefix(text: str) -> bool:
    """Whether `text` could be the beginning of an image id, with or without `sha256:`."""
    hexadecimal = text.removeprefix("sha256:")
    return 0 < len(hexadecimal) <= 64 and not hexadecimal.strip(_HEX)


def check_digest(digest: str) -> str:
    """Returns `digest` if it is well-formed, with an algorithm that is available and of the right length.

    Raises InvalidReferenceError.
    """
    algorithm, _, encoded = digest.partition(":")
    if not algorithm or not encoded:
        raise InvalidReferenceError("invalid checksum digest format")
    length = _DIGEST_LENGTH.get(algorithm)
    if length is None:
        raise InvalidReferenceError("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidReferenceError("invalid checksum digest length")
    if encoded.strip(_HEX):
        raise InvalidReferenceError("invalid checksum digest format")
    return digest


def go_quote(text: str) -> str:
    """`text` as Go's %q prints it, so that messages match the kubelet's."""
    out = []
    for character in text:
        if character in '"\\':
            out.append(f"\\{character}")
        elif character.isprintable():
            out.append(character)
        elif character in "\a\b\f\n\r\t\v":
            out.append("\\" + "abfnrtv"["\a\b\f\n\r\t\v".index(character)])
        else:
            code = ord(character)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def _split_domain(text: str) -> tuple[str, str]:
    """The domain, the default one if the first component does not look like any, and the rest."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        first = DEFAULT_DOMAIN
    elif not (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        first, rest = DEFAULT_DOMAIN, text
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest


def _parse_whole(whole: str) -> ImageReference | None:
    """`domain/path[:tag][@digest]` taken apart and checked, or None; the digest's length is not checked here."""
    name, at, digest = whole.partition("@")
    if at and not _is_digest(digest):
        return None
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _is_tag(tag):
        return None
    name = f"{head}{slash}{last}"
    domain, _, path = name.partition("/")
    if path and _is_domain(domain) and _is_path(path):
        return ImageReference(domain, path, tag, digest)
    if _is_path(name):
        return ImageReference("", name, tag, digest)
    return None


def _is_path(text: str) -> bool:
    return all(_is_path_component(component) for component in text.split("/"))


def _is_path_component(text: str) -> bool:
    """Runs of [a-z0-9] with single `.` or `_`, double `_`, or any number of `-` between them."""
    if not text or text[0] not in _LOWER_ALNUM or text[-1] not in _LOWER_ALNUM:
        return False
    separator = ""
    for character in text:
        if character in _LOWER_ALNUM:
            if separator and separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        else:
            separator += character
    return True


def _is_domain(text: str) -> bool:
    """A DNS-like name, an IPv4 address or an IPv6 address in brackets, with an optional port."""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or not address or address.strip(_XDIGIT + ":"):
            return False
    else:
        host, colon, port = text.partition(":")
        port = colon + port
        for label in host.split("."):
            if not label or label[0] == "-" or label[-1] == "-" or label.strip(_ALNUM + "-"):
                return False
    return not port or (port[0] == ":" and len(port) > 1 and not port[1:].strip(_DIGITS))


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= TAG_MAX and text[0] not in ".-" and not text.strip(_ALNUM + "_.-")


def _is_digest(text: str) -> bool:
    """Components of letters and digits joined by one of `-_+.`, a colon, at least 32 hexadecimal digits."""
    algorithm, _, encoded = text.partition(":")
    if len(encoded) < 32 or encoded.strip(_XDIGIT):
        return False
    for separator in "-_+":
        algorithm = algorithm.replace(separator, ".")
    return all(
        component and component[0] in _ALNUM and component[0] not in _DIGITS and not component.strip(_ALNUM)
        for component in algorithm.split(".")
    )
