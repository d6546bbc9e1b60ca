"""What is found in archives and layouts, before anything is unpacked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from podlite.cri.errors import ImageError
from podlite.runtime.image.archive import open_files
from podlite.runtime.image.assembly import EMPTY_LAYER, chain_ids
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.load import find_images
from podlite.runtime.image.plan import ImagePlan
from tests.support.images import (
    ARCHITECTURE,
    OCI_MANIFEST,
    File,
    Layout,
    TestImage,
    docker_archive,
    layer_tar,
    oci_archive,
    oci_layout,
    sha256,
)

OTHER = "s390x" if ARCHITECTURE != "s390x" else "amd64"
LAYER = layer_tar({"hello": b"hello"})


def image(name: str = "", **changes: Any) -> TestImage:
    return TestImage(name, [LAYER], **changes)


def find(path: Path, name: str = "") -> list[ImagePlan]:
    with open_files(str(path), f"{path}.spool", Limits(), str(path.parent)) as files:
        return find_images(files, name)


def write(layout: Layout, tmp_path: Path) -> Path:
    return layout.write_directory(tmp_path / "layout")


def tags(plan: ImagePlan) -> list[str]:
    return [name for name in plan.names if "@" not in name]


# --- formats ---


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
def test_docker_archives(tmp_path: Path, compression: str) -> None:
    images = [image("demo:1", extra_names=["quay.io/x/demo"]), image("demo:2", config={"Cmd": ["2"]})]
    first, second = find(docker_archive(tmp_path / "a", images, compression=compression))
    assert (first.id, second.id) == (images[0].id, images[1].id)
    assert first.names == ["docker.io/library/demo:1", "quay.io/x/demo:latest"]
    assert second.config.cmd == ["2"]
    # The second one's layer is a link to the first one's.
    assert [layer.diff_id for layer in second.layers] == [sha256(LAYER)]


def test_oci_archives_and_directories_hold_the_same(tmp_path: Path) -> None:
    images = [image("docker.io/library/demo:1"), image("quay.io/x/demo:2", config={"Cmd": ["2"]})]
    from_archive = find(oci_archive(tmp_path / "a", images, compression="gzip"))
    from_directory = find(oci_layout(tmp_path / "d", images))
    assert [plan.id for plan in from_archive] == [plan.id for plan in from_directory] == [each.id for each in images]
    assert [plan.names for plan in from_archive] == [plan.names for plan in from_directory]
    assert from_archive[1].names[0] == "quay.io/x/demo:2"


def test_images_are_known_by_their_digest_too(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.image(image())
    layout.add(descriptor, name="docker.io/library/demo:1")
    (plan,) = find(write(layout, tmp_path))
    assert plan.names == ["docker.io/library/demo:1", f"docker.io/library/demo@{descriptor['digest']}"]


# --- names ---


@pytest.mark.parametrize(
    ("ref_name", "base", "names"),
    [
        ("quay.io/a/b:1", "", ["quay.io/a/b:1"]),  # podman
        ("demo:1", "", ["docker.io/library/demo:1"]),
        ("1.0", "", []),  # skopeo: a bare tag says nothing of a repository
        ("1.0", "quay.io/a/b", ["quay.io/a/b:1.0"]),
        ("", "", []),
        ("", "quay.io/a/b", ["quay.io/a/b:latest"]),
    ],
)
def test_names_by_the_oci_annotation(tmp_path: Path, ref_name: str, base: str, names: list[str]) -> None:
    layout = Layout()
    layout.add(layout.image(image()), **({"ref_name": ref_name} if ref_name else {}))
    (plan,) = find(write(layout, tmp_path), base)
    assert tags(plan) == names


def test_one_given_name_cannot_be_for_two_images(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a", [image(), image(config={"Cmd": ["2"]})])
    with pytest.raises(ImageError, match="2 images without a name"):
        find(path, "demo")


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.image(image()), name="Bad Name:1")
    with pytest.raises(ImageError, match="'Bad Name:1': invalid reference format") as caught:
        find(write(layout, tmp_path))
    assert caught.value.reason == "InvalidImageName"


# --- platforms ---


@pytest.mark.parametrize("docker", [False, True])
def test_the_image_for_this_machine_is_taken(tmp_path: Path, docker: bool) -> None:
    """The other platform comes first, and its blobs are not there, as `docker save` leaves them out."""
    layout, absent = Layout(), Layout()
    mine, other = image(), image(architecture=OTHER)
    descriptors = [absent.image(other, docker=docker), layout.image(mine, docker=docker)]
    layout.add(layout.index(descriptors, docker=docker), name="docker.io/library/demo:1")
    (plan,) = find(write(layout, tmp_path))
    assert plan.id == mine.id
    # The name by digest is that of the index, as a registry has it.
    assert plan.names[1].endswith(layout.manifests[0]["digest"])


def test_attestations_and_artifacts_are_no_images(tmp_path: Path) -> None:
    layout = Layout()
    mine = layout.image(image())
    signature = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.dev.cosign.signature",
            "config": layout.blob(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [],
        }
    )
    layout.add(layout.index([layout.attestation(mine), mine]), name="docker.io/library/demo:1")
    layout.add(layout.attestation(mine))
    layout.add(layout.blob(signature.encode(), OCI_MANIFEST))
    (plan,) = find(write(layout, tmp_path))
    assert plan.id == image().id


def test_indexes_nest(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.image(image())
    del descriptor["platform"]
    for _ in range(3):
        descriptor = layout.index([descriptor])
    layout.add(descriptor)
    (plan,) = find(write(layout, tmp_path))
    assert plan.id == image().id


def test_indexes_do_not_nest_for_ever(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.image(image())
    for _ in range(10):
        descriptor = layout.index([descriptor])
    layout.add(descriptor)
    with pytest.raises(ImageError, match="indexes within indexes"):
        find(write(layout, tmp_path))


def test_an_index_that_fans_out_is_looked_at_once(tmp_path: Path) -> None:
    """40 entries on each of 7 levels are 1.6e11 paths and 8 blobs."""
    layout = Layout()
    descriptor = layout.image(image())
    for _ in range(7):
        descriptor = layout.index([descriptor] * 40)
    layout.add(descriptor)
    (plan,) = find(write(layout, tmp_path))
    assert plan.id == image().id


@pytest.mark.skipif(ARCHITECTURE != "amd64", reason="about what else amd64 runs")
def test_of_two_platforms_that_run_here_the_better_is_taken(tmp_path: Path) -> None:
    layout = Layout()
    mine, old = image(), image(architecture="386")
    for each in (old, mine):
        layout.add(layout.image(each), name="docker.io/library/demo:1")
        layout.add(layout.image(each))
    plans = find(write(layout, tmp_path))
    assert [plan.id for plan in plans] == [mine.id]
    only_old = Layout()
    only_old.add(only_old.image(old))
    assert [plan.id for plan in find(only_old.write_directory(tmp_path / "old"))] == [old.id]


def test_an_image_for_another_machine_is_refused_by_platform(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.index([layout.image(image(architecture=OTHER)), layout.image(image(os="windows"))]))
    with pytest.raises(ImageError, match=rf"no image for this machine.* it has linux/{OTHER} and windows/"):
        find(write(layout, tmp_path))
    with pytest.raises(ImageError, match=f"is for linux/{OTHER}, and this machine runs"):
        find(docker_archive(tmp_path / "a", [image("demo:1", architecture=OTHER)]))


def test_an_image_that_states_no_platform_is_taken(tmp_path: Path) -> None:
    (plan,) = find(docker_archive(tmp_path / "a", [image("demo:1", architecture="", os="")]))
    assert plan.names == ["docker.io/library/demo:1"]


# --- what is wrong with files ---


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"hello world" * 100)
    (tmp_path / "tar").write_bytes(layer_tar({"a": b""}))
    (tmp_path / "old").write_bytes(layer_tar({"repositories": b"{}"}))
    (tmp_path / "directory").mkdir()
    for name, message in [
        ("missing", "missing cannot be opened: No such file"),
        ("empty", "empty is empty"),
        ("text", "text is not a valid tar archive"),
        ("tar", "tar is no image"),
        ("old", "older than 1.10"),
        ("directory", "directory is no image"),
    ]:
        with pytest.raises(ImageError, match=message):
            find(tmp_path / name)


def test_an_archive_of_no_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="contains no image"):
        find(docker_archive(tmp_path / "a", []))
    with pytest.raises(ImageError, match="contains no image"):
        find(Layout().write_directory(tmp_path / "d"))


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"manifests": [{}]}', b"\xff"])
def test_bad_json_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = oci_layout(tmp_path / "d", [image()])
    (path / name).write_bytes(content)
    with pytest.raises(ImageError, match=f"{name}|unknown version"):
        find(path)


def test_a_bad_docker_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(layer_tar({"manifest.json": b'[{"Config": 1}]'}))
    with pytest.raises(ImageError, match=r"manifest\.json in .* cannot be read: .*\$\[0\]\.Config"):
        find(tmp_path / "a")


def test_a_member_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(layer_tar({"manifest.json": b'[{"Config": "c.json", "Layers": []}]'}))
    with pytest.raises(ImageError, match=r"lacks c\.json"):
        find(tmp_path / "a")


def test_layers_and_diff_ids_must_be_as_many(tmp_path: Path) -> None:
    config = image().config_blob()
    manifest = b'[{"Config": "c.json", "Layers": []}]'
    (tmp_path / "a").write_bytes(layer_tar({"manifest.json": manifest, "c.json": File(config)}))
    with pytest.raises(ImageError, match="has 0 layers, and its configuration 1"):
        find(tmp_path / "a")


def test_blobs_are_verified(tmp_path: Path) -> None:
    path = oci_layout(tmp_path / "d", [image()])
    config = path / "blobs" / "sha256" / image().id.removeprefix("sha256:")
    config.write_bytes(config.read_bytes().replace(b"created", b"Created"))
    with pytest.raises(ImageError, match=f"{config.name} .*is damaged"):
        find(path)
    config.unlink()
    with pytest.raises(ImageError, match=f"lacks blobs/sha256/{config.name}"):
        find(path)


def test_a_missing_layer_is_found_before_anything_is_unpacked(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.image(image(), layers="none"))
    del layout.files[f"blobs/sha256/{sha256(LAYER).removeprefix('sha256:')}"]
    with pytest.raises(ImageError, match=f"not complete: its layer {sha256(LAYER)} is missing"):
        find(write(layout, tmp_path))


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "md5:" + "0" * 64, "sha512:" + "0" * 128, ""])
def test_odd_digests_lead_nowhere(tmp_path: Path, digest: str) -> None:
    layout = Layout()
    layout.add({**layout.image(image()), "digest": digest})
    with pytest.raises(ImageError, match="digest"):
        find(write(layout, tmp_path))


def test_links_in_a_layout_stay_inside(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(image().config_blob())
    path = oci_layout(tmp_path / "d", [image()])
    config = path / "blobs" / "sha256" / image().id.removeprefix("sha256:")
    config.unlink()
    config.symlink_to(secret)
    with pytest.raises(ImageError, match="lacks"):
        find(path)


def test_members_that_link_to_one_another_end(tmp_path: Path) -> None:
    from tests.support.images import Symlink

    members = {"manifest.json": b'[{"Config": "a", "Layers": []}]', "a": Symlink("b"), "b": Symlink("a")}
    (tmp_path / "a").write_bytes(layer_tar(members))
    with pytest.raises(ImageError, match="lacks a"):
        find(tmp_path / "a")


def test_an_archive_that_is_cut_short_is_said_to_be(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "a", [image("demo:1")])
    raw = path.read_bytes()
    # 520 bytes after its name the manifest has begun, and goes on.
    path.write_bytes(raw[: raw.index(b"manifest.json") + 520])
    with pytest.raises(ImageError, match=r"is not a valid tar archive: it is cut short in manifest\.json"):
        find(path)


def test_a_compressed_archive_may_not_grow_beyond_the_limit(tmp_path: Path) -> None:
    path = docker_archive(
        tmp_path / "a", [dataclasses.replace(image(), layers=[{"z": b"\0" * 5_000_000}])], compression="gzip"
    )
    with (
        pytest.raises(ImageError, match="more than 1000000 bytes"),
        open_files(str(path), f"{path}.spool", Limits(max_bytes=1_000_000), str(tmp_path)),
    ):
        pass


# --- chain ids ---


def test_chain_ids_are_the_specifications() -> None:
    # config.md: ChainID(L0) = DiffID(L0); ChainID(L0|…|Ln) = Digest(ChainID(L0|…|Ln-1) + " " + DiffID(Ln))
    a, b, c = (sha256(text) for text in (b"a", b"b", b"c"))
    ab = sha256(f"{a} {b}".encode())
    assert chain_ids([a, b, c]) == [digest.removeprefix("sha256:") for digest in (a, ab, sha256(f"{ab} {c}".encode()))]
    assert chain_ids([]) == []


def test_the_empty_layer_is_an_empty_archive() -> None:
    assert sha256(bytes(1024)) == EMPTY_LAYER
