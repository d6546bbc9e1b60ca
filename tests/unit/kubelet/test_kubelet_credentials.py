"""Which credentials an image is pulled with: places that match, docker's files, Secrets, and credential helpers.

Sources: https://kubernetes.io/docs/concepts/containers/images/#config-json, pkg/credentialprovider/keyring_test.go,
Kubernetes 1.36; docker CLI cli/config/configfile; docker-credential-helpers README.md.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from podlite.api.config import Secret
from podlite.api.meta import ObjectMeta
from podlite.api.references import LocalObjectReference
from podlite.cri.types import AuthConfig
from podlite.errors import PodliteError
from podlite.kubelet.credentials.docker_config import BadConfig, parse_config, parse_legacy_config
from podlite.kubelet.credentials.helpers import HelperError, ask_helper
from podlite.kubelet.credentials.keyring import Keyring, entries_of, matches
from podlite.kubelet.credentials.lookup import PullCredentials, machine_credentials, secret_keyring
from podlite.kubelet.image_name import repository_of
from podlite.kubelet.objects import Objects
from podlite.kubelet.paths import default_config_paths
from podlite.kubelet.pull_records import PullCredential
from podlite.kubelet.types import KubeletError
from tests.support.pods import a_pod


@pytest.mark.parametrize(
    ("pattern", "target", "expected"),
    [
        ("*.kubernetes.io", "abc.kubernetes.io", True),
        ("*.kubernetes.io", "kubernetes.io", False),
        ("*.*.kubernetes.io", "abc.kubernetes.io", False),
        ("*.*.kubernetes.io", "abc.def.kubernetes.io", True),
        ("prefix.*.io", "prefix.kubernetes.io", True),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io", True),
        ("*kubernetes.io", "a.kubernetes.io", False),
        ("k?.io", "k8.io", True),
        ("[a-c]x.io", "bx.io", True),
        ("[^a-c]x.io", "bx.io", False),
        ("my-registry.io/images", "my-registry.io/images/my-image", True),
        ("my-registry.io/images", "my-registry.io/imagesque", True),
        ("my-registry.io/images", "my-registry.io/other", False),
        ("*.my-registry.io/images", "a.my-registry.io/images/x", True),
        ("my-registry.io:5000/images", "my-registry.io:5000/images/x", True),
        ("my-registry.io:5000", "my-registry.io", False),
        ("my-registry.io", "my-registry.io:5000", False),
        ("my-registry.io:*", "my-registry.io:5000", False),
        ("[::1]:5000", "[::1]:5000/x", True),
        ("[::1]:5000", "[::1]:5001/x", False),
        ("MY-registry.io", "my-registry.io", False),
    ],
)
def test_places(pattern: str, target: str, expected: bool) -> None:
    assert matches(pattern, target) == expected


def keyring(*places: str) -> Keyring[AuthConfig]:
    return Keyring((place, AuthConfig(username=place)) for place in places)


def users(ring: Keyring[Any], repository: str) -> list[str]:
    found = [each.auth if isinstance(each, PullCredential) else each for each in ring.lookup(repository)]
    return [auth.username for auth in found]


def test_the_most_exact_place_comes_first_and_all_are_tried() -> None:
    ring = keyring("quay.io", "quay.io/coreos", "quay.io/coreos/etcd", "*.io", "quay.io/other")
    expected = ["quay.io/coreos/etcd", "quay.io/coreos", "quay.io", "*.io"]
    assert users(ring, "quay.io/coreos/etcd") == expected


def test_one_place_may_have_several_credentials() -> None:
    ring = Keyring([("r.io", AuthConfig(username="a")), ("https://r.io/v1/", AuthConfig(username="b"))])
    assert users(ring, "r.io/x") == ["a", "b"]


@pytest.mark.parametrize("place", ["https://index.docker.io/v1/", "index.docker.io", "http://index.docker.io/v2/"])
@pytest.mark.parametrize("image", ["busybox", "library/busybox:1", "docker.io/library/busybox", "index.docker.io/a/b"])
def test_dockers_registry_has_its_own_name_in_the_files(place: str, image: str) -> None:
    assert users(keyring(place), repository_of(image)) == [place]
    assert users(keyring(place), "quay.io/library/busybox") == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("a/b:1", "docker.io/a/b"),
        ("localhost/x@sha256:" + "a" * 64, "localhost/x"),
        ("r.io:5000/x/y:1@sha256:" + "a" * 64, "r.io:5000/x/y"),
    ],
)
def test_the_repository_of_an_image(image: str, expected: str) -> None:
    assert repository_of(image) == expected


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_docker_config() -> None:
    raw = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": encode("me:p:w"), "email": "x@example.com"},
            "plain.io": {"username": "u", "password": "p"},
            "unpadded.io": {"auth": encode("ab:cde").rstrip("=")},
            "token.io": {"auth": encode("me:"), "identitytoken": "t"},
            "marker.io": {},
        },
        "credHelpers": {"gcr.io": "gcloud"},
        "credsStore": "pass",
        "HttpHeaders": {"x": "y"},
        "detachKeys": 7,
    }
    config = parse_config(json.dumps(raw).encode())
    assert config.auths["https://index.docker.io/v1/"] == AuthConfig(username="me", password="p:w")
    assert config.auths["plain.io"] == AuthConfig(username="u", password="p")
    assert config.auths["unpadded.io"] == AuthConfig(username="ab", password="cde")
    assert config.auths["token.io"] == AuthConfig(username="me", identity_token="t")
    assert (config.helpers, config.store) == ({"gcr.io": "gcloud"}, "pass")
    assert "marker.io" not in dict(entries_of(config.auths))
    assert parse_legacy_config(json.dumps(raw["auths"]).encode()).auths == config.auths


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"auths": []}',
        b'{"auths": {"x": {"auth": "%%%"}}}',
        b'{"auths": {"x": {"auth": "bm9jb2xvbg=="}}}',
        b'{"a":' * 5000,
        b"\xff",
    ],
)
def test_what_is_no_config(raw: bytes) -> None:
    with pytest.raises(BadConfig):
        parse_config(raw)


def secret(name: str, type: str, **data: Any) -> Secret:
    encoded = {key: value if isinstance(value, bytes) else json.dumps(value).encode() for key, value in data.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace="default"), type=type, data=encoded)


JSON_SECRET = {".dockerconfigjson": {"auths": {"r.io": {"auth": encode("json:1")}}}}
LEGACY_SECRET = {".dockercfg": {"r.io": {"auth": encode("legacy:2")}}}


def test_secrets_of_both_types_count_and_others_do_not() -> None:
    ring = secret_keyring(
        [
            secret("a", "kubernetes.io/dockerconfigjson", **JSON_SECRET),
            secret("b", "kubernetes.io/dockercfg", **LEGACY_SECRET),
            secret("c", "Opaque", **JSON_SECRET),
            secret("d", "kubernetes.io/dockercfg", **JSON_SECRET),
        ]
    )
    assert users(ring, "r.io/x") == ["json", "legacy"]


def test_a_damaged_secret_is_named() -> None:
    broken = secret("broken", "kubernetes.io/dockerconfigjson", **{".dockerconfigjson": b"{"})
    with pytest.raises(KubeletError, match="the image pull secret default/broken is damaged"):
        secret_keyring([broken])


@pytest.mark.anyio
async def test_a_pods_secrets_come_before_the_machines(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {"r.io": {"auth": encode("machine:3")}}}))
    objects = Objects([secret("a", "kubernetes.io/dockerconfigjson", **JSON_SECRET)])
    pod = a_pod()
    pod.spec.image_pull_secrets = [LocalObjectReference(name="a"), LocalObjectReference(name="gone")]
    told: list[tuple[str, str, str]] = []
    lookup = PullCredentials(objects, (str(config), str(tmp_path / "missing" / "config.json"))).lookup
    found = await lookup(pod, "r.io/x:1", lambda *event: told.append(event))
    assert [each.auth.username for each in found] == ["json", "machine"]
    assert [each.secret and (each.secret.namespace, each.secret.name) for each in found] == [("default", "a"), None]
    # pkg/kubelet/kubelet_pods.go
    assert told == [
        (
            "Warning",
            "FailedToRetrieveImagePullSecret",
            "Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed.",
        )
    ]
    assert await lookup(pod, "other.io/x:1", lambda *event: None) == []


@pytest.mark.anyio
async def test_a_damaged_file_of_this_machine_keeps_no_pod_from_pulling(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{")
    found = await PullCredentials(Objects(), (str(config),)).lookup(a_pod(), "r.io/x:1", lambda *event: None)
    assert found == []
    with pytest.raises(PodliteError, match=r"config\.json is not a file of credentials"):
        await machine_credentials("r.io/x:1", (str(config),))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker-credential-test: says who asked for what, and knows a.io, token.io and docker's registry."""
    program = tmp_path / "docker-credential-test"
    program.write_text(
        """#!/bin/sh
read server
echo "$1 $server" >> "$0.asked"
case $server in
a.io) echo '{"ServerURL": "a.io", "Username": "u", "Secret": "s"}' ;;
token.io) echo '{"Username": "<token>", "Secret": "t"}' ;;
https://index.docker.io/v1/) echo '{"Username": "docker", "Secret": "s"}' ;;
garbage.io) echo garbage ;;
broken.io) echo 'the keyring is locked'; exit 1 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


@pytest.mark.anyio
async def test_a_helpers_answers(helper: Path) -> None:
    assert await ask_helper("test", "a.io") == AuthConfig(username="u", password="s")
    assert await ask_helper("test", "token.io") == AuthConfig(identity_token="t")
    assert await ask_helper("test", "unknown.io") is None
    with pytest.raises(HelperError, match="docker-credential-test failed: the keyring is locked"):
        await ask_helper("test", "broken.io")
    with pytest.raises(HelperError, match="not understood"):
        await ask_helper("test", "garbage.io")
    with pytest.raises(HelperError, match="cannot be run"):
        await ask_helper("absent", "a.io")
    with pytest.raises(HelperError, match="cannot be the name"):
        await ask_helper("../test", "a.io")
    assert Path(f"{helper}.asked").read_text().splitlines()[0] == "get a.io"


@pytest.mark.anyio
async def test_a_helper_is_asked_for_its_registry_or_as_the_store_of_all(helper: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credHelpers": {"a.io": "test"}, "auths": {"b.io": {"auth": encode("b:1")}}}))
    paths = (str(config),)
    assert [auth.username for auth in await machine_credentials("a.io/x", paths)] == ["u"]
    assert [auth.username for auth in await machine_credentials("b.io/x", paths)] == ["b"]
    assert Path(f"{helper}.asked").read_text() == "get a.io\n"
    config.write_text(json.dumps({"credsStore": "test", "auths": {"https://index.docker.io/v1/": {}}}))
    assert [auth.username for auth in await machine_credentials("busybox", paths)] == ["docker"]
    assert await machine_credentials("unknown.io/x", paths) == []


def test_where_docker_and_podman_keep_credentials() -> None:
    """docker CLI: DOCKER_CONFIG; containers-auth.json(5)."""
    assert default_config_paths({"HOME": "/h"}, 0) == (
        "/h/.docker/config.json",
        "/run/containers/0/auth.json",
        "/h/.dockercfg",
    )
    environment = {"HOME": "/h", "DOCKER_CONFIG": "/d", "XDG_RUNTIME_DIR": "/x", "REGISTRY_AUTH_FILE": "/a.json"}
    assert default_config_paths(environment, 1000) == (
        "/a.json",
        "/d/config.json",
        "/x/containers/auth.json",
        "/h/.dockercfg",
    )
