"""The pull policy that an image's name implies.

Source: pkg/apis/core/v1/defaults.go, Kubernetes 1.36, and the grammar of github.com/distribution/reference. The
runtime has the parser of references; here it matters only whether a name is one, and whether it has a tag.
"""

from __future__ import annotations

_LOWER_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_HEX = frozenset("0123456789abcdef")
_NAME_MAX = 255


def image_pull_policy(image: str) -> str:
    """Always for the tag `latest`, stated or meant; IfNotPresent for others, for digests, and for what is no name."""
    name, has_digest, _ = image.partition("@")
    folder, slash, last = name.rpartition("/")
    repository, has_tag, tag = last.partition(":")
    if has_tag:
        return "Always" if tag == "latest" else "IfNotPresent"
    if has_digest or not _is_repository(f"{folder}{slash}{repository}"):
        return "IfNotPresent"
    return "Always"


def _is_repository(name: str) -> bool:
    if len(name) == 64 and _HEX.issuperset(name):
        return False
    first, *rest = name.split("/")
    has_domain = bool(rest) and (first == "localhost" or not {".", ":"}.isdisjoint(first) or first != first.lower())
    # what looks like a domain and is none may still be part of a path: a_b.c/d
    path = rest if has_domain and _is_domain(first) else [first, *rest]
    return len("/".join(path)) <= _NAME_MAX and all(_is_component(each) for each in path)


def _is_domain(text: str) -> bool:
    if text.startswith("["):
        return "]" in text
    host, colon, port = text.partition(":")
    labels = [label.lower() for label in host.split(".")]
    good = all(label and (_LOWER_ALNUM | {"-"}).issuperset(label) and label.strip("-") == label for label in labels)
    return good and (not colon or port.isdecimal())


def _is_component(text: str) -> bool:
    """Lower-case words with a dot, one or two underscores, or any number of dashes between them."""
    if not text or not {text[0], text[-1]} <= _LOWER_ALNUM:
        return False
    between = "".join(["/" if letter in _LOWER_ALNUM else letter for letter in text]).split("/")
    return all(each in ("", ".", "_", "__") or not each.strip("-") for each in between)
