"""Pulls from a real registry, Debian's docker-registry, of every form of image that there is."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from podlite.cri.errors import DeadlineExceededError, ImageError
from podlite.cri.types import AuthConfig, ImageSpec
from podlite.runtime.image.platform import parse_platform
from podlite.runtime.image.registry.progress import DONE, EXISTS, LayerState
from podlite.runtime.image.service import StoreImageService
from tests.support.images import ARCHITECTURE, OCI_INDEX, File, HardLink, Layout, Symlink, TestImage, sha256
from tests.support.pulls import Puller
from tests.support.registry import PASSWORD, USER, Registry, serve_registry

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

OTHER = "s390x" if ARCHITECTURE != "s390x" else "amd64"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve_registry(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def demo(name: str, *contents: str, **options: Any) -> TestImage:
    """A layer for each content, with a file `data-N`."""
    layers = [{f"data-{number}": content} for number, content in enumerate(contents)]
    return TestImage(name, layers, {"Labels": {"is": contents[-1]}}, **options)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("docker", [False, True])
def test_one_image_of_one_platform(registry: Registry, puller: Puller, compression: str, docker: bool) -> None:
    """OCI image manifests and Docker's schema 2, whatever compresses the layers."""
    name = f"single/{compression}-{'docker' if docker else 'oci'}"
    image = demo(f"{name}:1", "below", f"above {compression} {docker}")
    descriptor = registry.push(image, layers=compression, docker=docker)
    pulled = puller.pull(f"{registry.host}/{name}:1")
    assert pulled.id == image.id
    assert puller.read(pulled, "data-1") == f"above {compression} {docker}".encode()
    names = puller.store.names_of(pulled)
    assert names == [f"{registry.host}/{name}:1", f"{registry.host}/{name}@{descriptor['digest']}"]
    assert puller.store.read_blob(descriptor["digest"]) is not None
    assert puller.left() == []


@pytest.mark.parametrize("docker", [False, True])
def test_of_an_index_the_image_for_this_machine_is_taken(registry: Registry, puller: Puller, docker: bool) -> None:
    """The wrong platform comes first, and attestations stand between (BuildKit, "Attestation storage")."""
    layout = Layout()
    name = f"index/{'docker' if docker else 'oci'}"
    wrong = layout.image(demo("", "wrong", architecture=OTHER), docker=docker)
    right_image = demo("", "right")
    right = layout.image(right_image, docker=docker)
    extra = [] if docker else [layout.attestation(wrong), layout.attestation(right)]
    top = layout.index([wrong, *extra, right], docker=docker)
    registry.push_layout(layout, name, {"1": top})
    pulled = puller.pull(f"{registry.host}/{name}:1")
    assert pulled.id == right_image.id
    assert f"{registry.host}/{name}@{top['digest']}" in puller.store.names_of(pulled)
    # All that leads from the name to the image is kept.
    assert {top["digest"], right["digest"], pulled.id} == set(pulled.blobs)


def test_another_platform_can_be_asked_for_and_one_that_is_not_there_is_named(
    registry: Registry, puller: Puller
) -> None:
    layout = Layout()
    wrong_image = demo("", "elsewhere", architecture=OTHER)
    wrong, right = layout.image(wrong_image), layout.image(demo("", "here"))
    registry.push_layout(layout, "platforms", {"1": layout.index([wrong, right]), "other": layout.index([wrong])})
    name = f"{registry.host}/platforms"
    assert puller.pull(f"{name}:1", platforms=parse_platform(f"linux/{OTHER}")).id == wrong_image.id
    with pytest.raises(ImageError, match=f"is not there for .*; it has linux/{OTHER}"):
        puller.pull(f"{name}:other")
    with pytest.raises(ImageError, match="is not there for linux/mips64"):
        puller.pull(f"{name}:1", platforms=parse_platform("linux/mips64"))
    registry.push(demo("platform-single:1", "x", architecture=OTHER))
    with pytest.raises(ImageError, match=f"it has linux/{OTHER}"):
        puller.pull(f"{registry.host}/platform-single:1")


@pytest.mark.skipif(ARCHITECTURE != "amd64", reason="needs amd64")
def test_of_several_variants_the_best_that_runs_here(registry: Registry, puller: Puller) -> None:
    layout = Layout()
    images = [demo("", level, variant=level) for level in ("v1", "v3", "v2")]
    registry.push_layout(layout, "variants", {"1": layout.index([layout.image(image) for image in images])})
    by_level = {image.variant: image.id for image in images}
    name = f"{registry.host}/variants:1"
    assert puller.pull(name, platforms=parse_platform("linux/amd64/v4")).id == by_level["v3"]
    assert puller.pull(name, platforms=parse_platform("linux/amd64/v2")).id == by_level["v2"]
    assert puller.pull(name, platforms=parse_platform("linux/amd64")).id == by_level["v1"]


def test_by_digest_there_is_a_digest_and_no_tag(registry: Registry, puller: Puller) -> None:
    descriptor = registry.push(demo("by-digest:1", "x"))
    name = f"{registry.host}/by-digest"
    pulled = puller.pull(f"{name}:ignored@{descriptor['digest']}")
    assert puller.store.names_of(pulled) == [f"{name}@{descriptor['digest']}"]
    with pytest.raises(ImageError, match="has no manifest sha256:0000"):
        puller.pull(f"{name}@sha256:{'0' * 64}")


def test_a_tag_is_resolved_anew_each_time_and_what_is_there_is_not_fetched_again(
    registry: Registry, puller: Puller
) -> None:
    name = f"{registry.host}/moving:1"
    first = demo("moving:1", "shared", "first")
    registry.push(first)
    assert puller.pull(name).id == first.id
    told = Told()
    assert puller.pull(name, progress=told).id == first.id
    assert told.layers == []
    second = demo("moving:1", "shared", "second")
    registry.push(second)
    assert puller.pull(name, progress=told).id == second.id
    assert [(layer.stage, layer.offset) for layer in told.layers] == [
        (EXISTS, told.layers[0].size),
        (DONE, told.layers[1].size),
    ]
    assert [image.record.id for image in puller.store.images()] == [second.id]
    assert puller.left() == []


class Told:
    """Notes what a pull says."""

    def __init__(self) -> None:
        self.layers: list[LayerState] = []
        self.stages: list[tuple[str, str]] = []

    def resolved(self, digest: str, layers: list[LayerState]) -> None:
        self.layers = layers

    def changed(self, layer: LayerState) -> None:
        self.stages.append((layer.digest, layer.stage))


def test_the_stages_of_a_layer_come_in_their_order(registry: Registry, puller: Puller) -> None:
    registry.push(TestImage("stages:1", [{"f": os.urandom(3_000_000)}]))
    told = Told()
    puller.pull(f"{registry.host}/stages:1", progress=told)
    stages = list(dict.fromkeys(stage for _, stage in told.stages))
    assert stages == ["downloading", "downloaded", "unpacking", "done"]


def test_one_archive_may_be_several_layers(registry: Registry, puller: Puller) -> None:
    layer = {"same": "content"}
    registry.push(TestImage("twice:1", [layer, {"other": ""}, layer]))
    pulled = puller.pull(f"{registry.host}/twice:1")
    assert len(pulled.layers) == 3
    assert puller.read(pulled, "same") == b"content"
    assert puller.left() == []


def test_an_image_without_layers(registry: Registry, puller: Puller) -> None:
    registry.push(TestImage("empty:1", [], {"Labels": {"a": "b"}}))
    pulled = puller.pull(f"{registry.host}/empty:1")
    assert pulled.config.labels == {"a": "b"}
    assert puller.left() == []


def test_links_and_set_user_ids_arrive(registry: Registry, puller: Puller) -> None:
    files = {"a": File("x", mode=0o4755), "b": HardLink("a"), "c": Symlink("a")}
    registry.push(TestImage("links:1", [files]))
    pulled = puller.pull(f"{registry.host}/links:1")
    root = puller.store.layout.layer(pulled.layers[0])
    assert os.stat(f"{root}/a").st_ino == os.stat(f"{root}/b").st_ino
    assert os.stat(f"{root}/a").st_mode & 0o7777 == 0o4755
    assert os.readlink(f"{root}/c") == "a"


def test_the_same_configuration_is_one_image_whatever_it_is_called(registry: Registry, puller: Puller) -> None:
    """CRI: an image's id is its configuration's digest; RemoveImage takes all its tags."""
    image = demo("one/a:1", "x", extra_names=["one/a:2", "two/b:1"])
    registry.push(image)
    names = [f"{registry.host}/{each}" for each in ("one/a:1", "one/a:2", "two/b:1")]
    assert {puller.pull(name).id for name in names} == {image.id}
    service = StoreImageService(puller.store, certs_dirs=(str(puller.certs),))

    async def scenario() -> None:
        found = await service.image_status(ImageSpec(image=names[0]))
        assert found is not None
        assert sorted(found.repo_tags) == sorted(names)
        assert len(found.repo_digests) == 2
        await service.remove_image(ImageSpec(image=names[1]))
        for name in (*names, image.id, found.repo_digests[0]):
            assert await service.image_status(ImageSpec(image=name)) is None

    anyio.run(scenario)
    assert puller.left() == []


def test_an_index_of_the_wrong_type_or_a_document_that_is_both_is_refused(registry: Registry, puller: Puller) -> None:
    """CVE-2021-41190: what one client takes for a manifest another may take for an index."""
    layout = Layout()
    descriptor = layout.image(demo("", "x"))
    document = json.loads(layout.files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"])
    both = json.dumps({**document, "manifests": []}).encode()
    top = layout.blob(both, OCI_INDEX)
    with pytest.raises(ImageError, match="both an index and a manifest"):
        from podlite.runtime.image.registry.client import RawManifest
        from podlite.runtime.image.registry.resolve import is_index

        is_index(RawManifest(both, top["digest"], OCI_INDEX), "", "it")
    registry.push_layout(layout, "mixed", {"1": descriptor})
    assert puller.pull(f"{registry.host}/mixed:1").id == document["config"]["digest"]


def test_what_is_no_image_is_not_pulled(registry: Registry, puller: Puller) -> None:
    layout = Layout()
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example.chart",
            "config": layout.blob(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [layout.blob(b"chart", "application/vnd.example.chart.content")],
        }
    ).encode()
    artifact = layout.blob(raw, "application/vnd.oci.image.manifest.v1+json")
    registry.push_layout(layout, "chart", {"1": artifact})
    with pytest.raises(ImageError, match=r"is no image of a container.*application/vnd\.example\.chart"):
        puller.pull(f"{registry.host}/chart:1")


# --- users and certificates -------------------------------------------------------------------


def test_a_registry_with_passwords(tmp_path: Path, puller: Puller) -> None:
    with serve_registry(tmp_path, password=True) as served:
        image = demo("secret:1", "x")
        served.push(image)
        name = f"{served.host}/secret:1"
        with pytest.raises(ImageError, match="it is not for everybody") as caught:
            puller.pull(name)
        assert "imagePullSecrets" in caught.value.hint
        with pytest.raises(ImageError, match="the credentials do not allow to pull it"):
            puller.pull(name, auth=AuthConfig(username=USER, password="wrong"))
        with pytest.raises(ImageError, match="it is not for everybody"):
            puller.pull(name, auth=AuthConfig(username=USER, password=PASSWORD, server_address="other.example"))
        assert puller.store.images() == []
        assert puller.pull(name, auth=AuthConfig(username=USER, password=PASSWORD)).id == image.id


class Authority:
    """A certificate authority of the test's own, and a certificate for 127.0.0.1 and registry.test."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.issued = self.ca.issue_cert("127.0.0.1", "registry.test")
        self.files = (directory / "ca.pem", directory / "server.pem", directory / "server.key")
        self.ca.cert_pem.write_to_path(str(self.files[0]))
        for blob in self.issued.cert_chain_pems:
            blob.write_to_path(str(self.files[1]), append=True)
        self.issued.private_key_pem.write_to_path(str(self.files[2]))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_certificates_are_verified_with_the_authorities_that_hosts_toml_names(
    tmp_path: Path, puller: Puller, authority: Authority
) -> None:
    with serve_registry(tmp_path, tls=authority.files) as served:
        image = demo("tls:1", "x")
        served.push(image)
        puller.hosts("registry.test", f'server = "https://{served.host}"\n')
        with pytest.raises(ImageError, match=r"the certificate of .* is not trusted") as caught:
            puller.pull("registry.test/tls:1")
        assert "hosts.toml" in caught.value.hint
        puller.hosts("registry.test", f'server = "https://{served.host}"\nca = "{authority.files[0]}"\n')
        assert puller.pull("registry.test/tls:1").id == image.id
        puller.store.remove(image.id)
        puller.hosts("registry.test", f'server = "https://{served.host}"\nskip_verify = true\n')
        assert puller.pull("registry.test/tls:1").id == image.id


def test_dockers_layout_of_certificate_files(tmp_path: Path, puller: Puller, authority: Authority) -> None:
    with serve_registry(tmp_path, tls=authority.files) as served:
        served.push(demo("files:1", "x"))
        # On loopback any certificate would do; another name of the same host asks for a good one.
        port = served.host.partition(":")[2]
        directory = puller.certs / f"127.0.0.1:{port}"
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(authority.files[0].read_bytes())
        assert puller.pull(f"{served.host}/files:1")


def test_on_loopback_tls_needs_no_authority_and_plain_http_no_configuration(
    tmp_path: Path, registry: Registry, puller: Puller, authority: Authority
) -> None:
    """As docker and containerd have it (containerd docs/hosts.md, localhost)."""
    with serve_registry(tmp_path, tls=authority.files) as served:
        served.push(demo("loopback:1", "x"))
        assert puller.pull(f"{served.host}/loopback:1")
    registry.push(demo("loopback:1", "y"))
    assert puller.pull(f"{registry.host}/loopback:1")


def test_elsewhere_plain_http_is_not_spoken_unless_configured(registry: Registry, puller: Puller) -> None:
    registry.push(demo("plain:1", "x"))
    puller.hosts("registry.test", f'server = "https://{registry.host}"\n')
    with pytest.raises(ImageError, match="does not speak TLS") as caught:
        puller.pull("registry.test/plain:1")
    assert 'server = "http://' in caught.value.hint
    puller.plain("registry.test", registry.url)
    assert puller.pull("registry.test/plain:1")


def test_a_client_certificate_is_shown(puller: Puller, authority: Authority, tmp_path: Path) -> None:
    from tests.support.fault_registry import FaultRegistry

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issued.configure_cert(context)
    authority.ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.ca.issue_cert("podlite.test")
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    layout = Layout()
    image = demo("", "x")
    with FaultRegistry(context) as served:
        served.add("demo", "1", layout, layout.image(image))
        head = f'server = "{served.url}"\nca = "{authority.files[0]}"\n'
        puller.hosts("registry.test", head)
        with pytest.raises(ImageError):
            puller.pull("registry.test/demo:1")
        puller.hosts("registry.test", f'{head}client = "{tmp_path}/client.pem"\n')
        assert puller.pull("registry.test/demo:1").id == image.id


# --- mirrors ------------------------------------------------------------------------------------


def test_mirrors_come_before_the_registry_and_what_they_lack_comes_from_it(
    tmp_path: Path, registry: Registry, puller: Puller
) -> None:
    image = demo("mirrored/x:1", "x")
    registry.push(image)
    with serve_registry(tmp_path) as empty:
        text = f'server = "{registry.url}"\n[host."{empty.url}"]\n  capabilities = ["pull", "resolve"]\n'
        puller.hosts("registry.test", text)
        assert puller.pull("registry.test/mirrored/x:1").id == image.id
        # The name is the one that was asked for, whoever answered.
        assert "registry.test/mirrored/x:1" in puller.store.names_of(puller.store.images()[0].record)
        puller.store.remove(image.id)
        empty.push(image)
        puller.hosts("registry.test", text.replace(registry.url, "http://127.0.0.1:1"))
        assert puller.pull("registry.test/mirrored/x:1").id == image.id


# --- the seam -------------------------------------------------------------------------------------


def test_a_deadline_leaves_no_image_and_says_so(registry: Registry, puller: Puller) -> None:
    image = TestImage("deadline:1", [{"f": os.urandom(2_000_000)}])
    registry.push(image)
    service = StoreImageService(puller.store, certs_dirs=(str(puller.certs),))
    spec = ImageSpec(image=f"{registry.host}/deadline:1")

    async def scenario() -> str:
        with pytest.raises(DeadlineExceededError, match=r"was not pulled within 0\.001 s"):
            await service.pull_image(spec, timeout=0.001)
        assert await service.image_status(spec) is None
        return await service.pull_image(spec, timeout=60)

    assert anyio.run(scenario) == image.id
    assert puller.left() == []


def test_names_as_pods_write_them(registry: Registry, puller: Puller) -> None:
    """`latest` where no tag is given, and docker.io's library where no registry is."""
    image = demo("library/busybox:latest", "x")
    registry.push(image)
    puller.plain("docker.io", registry.url)
    service = StoreImageService(puller.store, certs_dirs=(str(puller.certs),))
    assert anyio.run(service.pull_image, ImageSpec(image="busybox")) == image.id
    assert "docker.io/library/busybox:latest" in puller.store.names_of(puller.store.images()[0].record)
    assert sha256(image.config_blob()) == image.id
