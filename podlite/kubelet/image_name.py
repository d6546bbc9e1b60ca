"""Image names as far as the kubelet looks at them: whether one is valid, and `latest` where no tag is given.

Source: the grammar of github.com/distribution/reference (regexp.go, normalize.go, reference.go) and
pkg/util/parsers/parsers.go; the texts are theirs, for clients match on them.
"""

from __future__ import annotations

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_NAME_MAX = 255

_FORMAT = "invalid reference format"

# Only compiled for names that are not plain, for that takes longer than starting a container.
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_REFERENCE = (
    rf"((?:{_DOMAIN}/)?{_PATH_PART}(?:/{_PATH_PART})*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}))?"
)


class InvalidImageName(ValueError):
    """The name cannot be an image's. The text is the kubelet's."""


def with_default_tag(image: str) -> str:
    """The name, with `:latest` if it has neither tag nor digest. Raises InvalidImageName."""
    if _is_plain(image):
        return image if ":" in image else f"{image}:latest"
    name, tag, digest = _parse(image)
    del name
    return image if tag or digest else f"{image}:latest"


def registry(image: str) -> str:
    """The registry's name in a valid image name; `docker.io` where none is given."""
    first, slash, _ = image.partition("/")
    return first if slash and (any(each in first for each in ".:[") or first == "localhost") else "docker.io"


def repository_of(image: str) -> str:
    """The full name of a valid image's repository, without tag and digest: `docker.io/library/busybox`."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    domain, remainder = _split_domain(f"{head}{slash}{last.partition(':')[0]}")
    return f"{domain}/{remainder}"


def _is_plain(image: str) -> bool:
    """Whether the name consists of letters, digits and single separators in the obvious places; most do."""
    name, _, tag = image.partition(":")
    parts = name.split("/")
    words = [word for part in parts for word in part.replace(".", "-").split("-")]
    if len(image) > 200 or not all(word and _PLAIN.issuperset(word) for word in words):
        return False
    if len(parts) == 1 and len(name) == 64:
        return False  # may be an image's id
    tag_words = tag.replace(".", "-").split("-") if ":" in image else []
    return len(tag) <= 128 and all(word and _PLAIN.issuperset(word) for word in tag_words)


def _parse(image: str) -> tuple[str, str, str]:
    import re

    problem = ""
    if re.fullmatch(r"[a-f0-9]{64}", image):
        problem = f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"
    else:
        domain, remainder = _split_domain(image)
        path = remainder.partition(":")[0]
        whole = f"{domain}/{remainder}"
        found = re.fullmatch(_REFERENCE, whole)
        if path.lower() != path:
            problem = f"{_FORMAT}: repository name ({path}) must be lowercase"
        elif found is None:
            lower = re.fullmatch(_REFERENCE, whole.lower()) is not None
            problem = "repository name must be lowercase" if lower else _FORMAT
        elif len(found[1].partition("/")[2]) > _NAME_MAX:
            problem = f"repository name must not be more than {_NAME_MAX} characters"
        else:
            return found[1], found[2] or "", found[3] or ""
    quoted = image.replace("\\", "\\\\").replace('"', '\\"')
    raise InvalidImageName(f'couldn\'t parse image name "{quoted}": {problem}')


def _split_domain(image: str) -> tuple[str, str]:
    first, slash, rest = image.partition("/")
    if not slash:
        return "docker.io", f"library/{image}"
    if first == "localhost" or any(each in first for each in ".:") or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = "docker.io", image
    if domain in ("docker.io", "index.docker.io"):
        domain = "docker.io"
        if "/" not in remainder:
            remainder = f"library/{remainder}"
    return domain, remainder
