"""The pure parts of a pull: challenges, credentials, retries, kinds of documents, the pace of a download."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.cri.auth import decode_auth
from podlite.cri.errors import ImageError
from podlite.cri.types import AuthConfig
from podlite.errors import UsageError
from podlite.runtime.image.platform import parse_platform
from podlite.runtime.image.reference import digest_reference
from podlite.runtime.image.registry.auth import (
    Challenge,
    Credentials,
    credentials_of,
    parse_challenges,
)
from podlite.runtime.image.registry.client import RawManifest
from podlite.runtime.image.registry.download import Pace
from podlite.runtime.image.registry.failure import RegistryFailure, pull_error
from podlite.runtime.image.registry.resolve import is_index
from podlite.runtime.image.registry.retry import RetryPolicy, parse_retry_after

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # distribution/distribution docs/spec/auth/token.md
        (
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
            ],
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        # RFC 7235 4.1: several challenges in one header, and in several
        (
            ['Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'],
            [
                Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                Challenge("basic", {"realm": "simple"}),
            ],
        ),
        (["Basic", 'BEARER Realm = "x"'], [Challenge("basic", {}), Challenge("bearer", {"realm": "x"})]),
        (["Basic, Bearer realm=x"], [Challenge("basic", {}), Challenge("bearer", {"realm": "x"})]),
        (['Basic realm="unfinished'], [Challenge("basic", {"realm": "unfinished"})]),
        (["", ",,,", '"'], []),
    ],
)
def test_challenges(headers: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(headers) == expected


@given(st.lists(st.text(), max_size=3))
def test_no_challenge_is_too_odd_to_be_read(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


def test_credentials_are_for_the_registry_that_they_state() -> None:
    auth = AuthConfig(username="u", password="p")
    assert credentials_of(auth, "r.io") == Credentials("u", "p")
    assert credentials_of(None, "r.io") is None
    assert credentials_of(AuthConfig(), "r.io") is None
    for address, registry, expected in (
        ("r.io", "r.io", True),
        ("https://r.io/v1/", "r.io", True),
        ("r.io:5000", "r.io", False),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("https://index.docker.io/v1/", "r.io", False),
    ):
        stated = AuthConfig(username="u", password="p", server_address=address)
        assert (credentials_of(stated, registry) is not None) == expected


def test_the_base64_form_of_credentials() -> None:
    """RFC 7617; docker pads with zero bytes, and some tools leave out base64's own padding."""
    assert decode_auth("dTpwOnc=") == ("u", "p:w")
    assert decode_auth("dTpwOnc") == ("u", "p:w")
    assert decode_auth("dTpwAAA=") == ("u", "p")
    for wrong in ("", "%%%", "dQ==", "/////w=="):
        with pytest.raises(ValueError):
            decode_auth(wrong)
        with pytest.raises(RegistryFailure, match="not the base64 form"):
            credentials_of(AuthConfig(auth=wrong or "="), "r.io")


def test_delays_double_between_half_and_all_of_what_is_due() -> None:
    policy = RetryPolicy(attempts=6, first=1, longest=4)
    for failures, due in ((1, 1), (2, 2), (3, 4), (4, 4), (5, 4)):
        delay = policy.delay(failures)
        assert delay is not None
        assert due / 2 <= delay <= due
    assert policy.delay(6) is None
    assert policy.delay(1, 30) == 30
    assert policy.delay(1, 61) is None
    assert policy.delay(6, 1) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37),  # RFC 9110 5.6.7
        ("Sun, 06 Nov 1994 08:48:00 GMT", 0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("\u0661", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert parse_retry_after(value, now=784111740.0) == expected


def test_what_failed_everywhere_is_told_once_each() -> None:
    down = RegistryFailure("a is down", transient=True, unavailable=True)
    error = pull_error("it cannot be pulled", [down, down, RegistryFailure("b says no", hint="ask b")])
    assert error.message == "it cannot be pulled: a is down; b says no"
    assert (error.reason, error.hint) == ("ErrImagePull", "ask b")
    assert pull_error("it", [down]).reason == "RegistryUnavailable"


def document(**fields: object) -> RawManifest:
    return RawManifest(json.dumps(fields).encode(), "sha256:0", "")


def test_an_index_and_a_manifest_are_told_apart() -> None:
    assert is_index(document(schemaVersion=2, manifests=[]), OCI_INDEX, "it")
    assert is_index(document(schemaVersion=2, mediaType=OCI_INDEX, manifests=[]), "", "it")
    assert not is_index(document(schemaVersion=2, layers=[], config={}), OCI_MANIFEST, "it")


@pytest.mark.parametrize(
    ("fields", "stated", "message"),
    [
        ({"manifests": [], "layers": []}, "", "both an index and a manifest"),
        ({"manifests": [], "config": {}}, "", "both an index and a manifest"),
        ({}, "", "something else"),
        ({"manifests": None}, "", "something else"),
        ({"manifests": [], "mediaType": OCI_MANIFEST}, "", "is said to be .*, and is an index"),
        ({"layers": [], "mediaType": OCI_INDEX}, "", "is said to be .*, and is a manifest"),
        ({"layers": []}, OCI_INDEX, "is said to be .*, and is a manifest"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "schema 1"),
    ],
)
def test_documents_that_are_neither_or_both(fields: dict[str, object], stated: str, message: str) -> None:
    """CVE-2021-41190, GHSA-77vh-xpmg-72qh."""
    with pytest.raises(ImageError, match=message):
        is_index(document(**{"schemaVersion": 2, **fields}), stated, "it")


def test_what_the_server_says_counts_too() -> None:
    manifest = json.dumps({"schemaVersion": 2, "layers": [], "config": {}}).encode()
    assert not is_index(RawManifest(manifest, "sha256:0", "text/plain"), "", "it")
    with pytest.raises(ImageError, match=r"is said to be .*index.*, and is a manifest"):
        is_index(RawManifest(manifest, "sha256:0", OCI_INDEX), "", "it")


def test_the_pace_of_a_download() -> None:
    pace = Pace(10, 100)
    assert pace.keeps(0, 0)
    assert pace.keeps(500, 9)
    assert pace.keeps(500, 10)
    assert pace.keeps(100, 15)
    assert not pace.keeps(100, 20)
    assert pace.keeps(0, 25)
    assert pace.keeps(5000, 30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", ["linux/amd64"]),
        ("amd64", ["linux/amd64"]),
        ("x86_64", ["linux/amd64"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"]),
        ("linux/arm64", ["linux/arm64"]),
        ("linux/arm64/v8", ["linux/arm64"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v6", ["linux/arm/v6", "linux/arm/v5"]),
        ("windows/amd64", ["windows/amd64"]),
        ("linux/amd64/odd", ["linux/amd64/vodd"]),
    ],
)
def test_platforms_that_are_asked_for(text: str, expected: list[str]) -> None:
    """github.com/containerd/platforms: what also runs on it is as good."""
    assert [str(platform) for platform in parse_platform(text)] == expected


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d", "linux/", "linux/am d64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(UsageError, match="is not a platform"):
        parse_platform(text)


def test_an_image_in_use_is_named_by_digest() -> None:
    names = ["a.io/x:1", "a.io/x@sha256:1", "docker.io/library/x@sha256:2"]
    assert digest_reference(names, "a.io/x:1") == "a.io/x@sha256:1"
    assert digest_reference(names, "x") == "docker.io/library/x@sha256:2"
    assert digest_reference(names, "b.io/x") == "a.io/x@sha256:1"
    assert digest_reference(names, "sha256:" + "0" * 64) == "a.io/x@sha256:1"
    assert digest_reference(["a.io/x:1"], "a.io/x:1") == ""
