"""References. The grammar is that of github.com/distribution/reference (reference.go, regexp.go, normalize.go)."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.cri.errors import ImageError
from podlite.runtime.image.reference import (
    ImageReference,
    InvalidReferenceError,
    apply_default_tag,
    check_digest,
    go_quote,
    is_id_prefix,
    normalise,
    parse_reference,
)

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", "", ""),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", ""),
        ("library/busybox", "docker.io", "library/busybox", "", ""),
        ("user/app", "docker.io", "user/app", "", ""),
        ("docker.io/busybox", "docker.io", "library/busybox", "", ""),
        ("index.docker.io/busybox", "docker.io", "library/busybox", "", ""),
        ("docker.io/user/app:v1", "docker.io", "user/app", "v1", ""),
        ("localhost/app", "localhost", "app", "", ""),
        ("localhost:5000", "docker.io", "library/localhost", "5000", ""),
        ("localhost:5000/app", "localhost:5000", "app", "", ""),
        ("localhost:5000/app:1", "localhost:5000", "app", "1", ""),
        ("registry.example.com/a/b/c:tag", "registry.example.com", "a/b/c", "tag", ""),
        ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", "", ""),
        ("[::1]/app", "[::1]", "app", "", ""),
        ("[2001:db8::1]:5000/app:t", "[2001:db8::1]:5000", "app", "t", ""),
        ("MixedCase/app", "MixedCase", "app", "", ""),
        (f"busybox@{DIGEST}", "docker.io", "library/busybox", "", DIGEST),
        (f"busybox:1@{DIGEST}", "docker.io", "library/busybox", "1", DIGEST),
        ("u/a-b_c.d__e---f", "docker.io", "u/a-b_c.d__e---f", "", ""),
        # "a_b.com" cannot be a host, so the whole is a path: a quirk that the engines share.
        ("a_b.com/app", "", "a_b.com/app", "", ""),
        ("app:UPPER_tag.x-1", "docker.io", "library/app", "UPPER_tag.x-1", ""),
    ],
)
def test_a_reference_is_taken_apart(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    assert parse_reference(text) == ImageReference(domain, path, tag, digest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a@sha256:abc", "invalid reference format"),
        ("a@", "invalid reference format"),
        (f"a:{'t' * 129}", "invalid reference format"),
        ("[fe80::1%eth0]:5000/a", "invalid reference format"),
        ("example.com:port/a", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("user/App", "invalid reference format: repository name (user/App) must be lowercase"),
        ("A_b.com/app", "repository name must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("x.io/" + "a" * 256, "repository name must not be more than 255 characters"),
        (f"a@sha256:{HEX[:40]}", "invalid checksum digest length"),
        (f"a@sha256:{HEX.upper()}", "invalid checksum digest format"),
        (f"a@md5:{HEX}", "unsupported digest algorithm"),
    ],
)
def test_what_is_no_reference_is_refused_in_the_engines_words(text: str, message: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse_reference(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        # A digest says more than a tag: ParseDockerRef drops the tag.
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
    ],
)
def test_every_image_has_one_full_name(text: str, full: str) -> None:
    assert normalise(text) == full


@pytest.mark.parametrize(
    ("image", "tagged"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1", "busybox:1"),
        (f"busybox@{DIGEST}", f"busybox@{DIGEST}"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
    ],
)
def test_the_default_tag_leaves_short_names_short(image: str, tagged: str) -> None:
    assert apply_default_tag(image) == tagged


def test_a_bad_name_has_the_kubelets_reason_and_message() -> None:
    # pkg/kubelet/images/image_manager.go, EnsureImageExists; pkg/util/parsers, ParseImageName
    with pytest.raises(ImageError) as caught:
        apply_default_tag('Bad"Name')
    assert caught.value.reason == "InvalidImageName"
    assert caught.value.message == (
        r'Failed to apply default image tag "Bad\"Name": couldn'
        r"""'t parse image name "Bad\"Name": invalid reference format: """
        r'repository name (library/Bad"Name) must be lowercase'
    )


def test_an_empty_name_has_the_kubelets_message() -> None:
    with pytest.raises(ImageError) as caught:
        apply_default_tag("")
    assert caught.value.message == (
        'Failed to apply default image tag "": couldn\'t parse image name "": invalid reference format'
    )


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", '"a"'), ('"\\', '"\\"\\\\"'), ("\n\t\x00\x7f", '"\\n\\t\\x00\\x7f"'), ("é", '"é"'), ("\u200b", '"\\u200b"')],
)
def test_quoting_is_gos(text: str, quoted: str) -> None:
    assert go_quote(text) == quoted


@pytest.mark.parametrize(
    ("text", "is_prefix"),
    [("abc", True), ("sha256:abc", True), (HEX, True), ("xyz", False), ("", False), (HEX + "0", False), ("ABC", False)],
)
def test_prefixes_of_ids(text: str, is_prefix: bool) -> None:
    assert is_id_prefix(text) is is_prefix


def test_digests_have_the_length_of_their_algorithm() -> None:
    assert check_digest(f"sha512:{HEX}{HEX}") == f"sha512:{HEX}{HEX}"
    with pytest.raises(InvalidReferenceError, match="length"):
        check_digest(f"sha512:{HEX}")
    with pytest.raises(InvalidReferenceError, match="format"):
        check_digest("sha256:")


# The grammar as regular expressions, from the comment at the top of distribution/reference's reference.go.
_ALNUM = r"[a-z0-9]+"
_COMPONENT = rf"{_ALNUM}(?:(?:[._]|__|[-]+){_ALNUM})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_REMOTE = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"((?:{_DOMAIN}/)?{_REMOTE})(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@({_DIGEST}))?", re.ASCII
)


@given(st.text(alphabet="ab0A._-:/@[]", max_size=14).map(lambda text: f"x.io/{text}"))
def test_the_scanner_accepts_what_the_grammar_does(text: str) -> None:
    """With a domain in front nothing is filled in, so the grammar alone decides."""
    match = _REFERENCE.fullmatch(text)
    try:
        parsed = parse_reference(text)
    except InvalidReferenceError:
        assert match is None
    else:
        assert match is not None
        assert (parsed.repository, parsed.tag, parsed.digest) == (match[1], match[2] or "", match[3] or "")


_PATHS = st.from_regex(rf"\A{_COMPONENT}(?:/{_COMPONENT}){{0,2}}\Z").filter(lambda text: len(text) < 200)


@given(st.from_regex(rf"\A{_HOST}:[0-9]+\Z"), _PATHS, st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"))
def test_a_full_name_is_its_own_normal_form(domain: str, path: str, tag: str) -> None:
    """A first component with a port is a domain for certain."""
    full = f"{domain}/{path}:{tag}"
    assert normalise(full) == full
    assert parse_reference(full) == ImageReference(domain, path, tag)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse_reference(text)
    except InvalidReferenceError as error:
        assert str(error)
    else:
        assert parsed.path


def test_importing_it_compiles_no_regular_expression() -> None:
    code = (
        "import re, sys; before = re._cache.copy() if hasattr(re, '_cache') else {};"
        "import podlite.runtime.image.reference;"
        "assert getattr(re, '_cache', {}).keys() == before.keys();"
        "assert 'hashlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
