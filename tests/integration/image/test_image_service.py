"""CRI's ImageService (cri-api, api.proto: ImageService) over a real store."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from podlite.cri.errors import ImageError
from podlite.cri.services import ImageService
from podlite.cri.types import Image, ImageSpec
from podlite.runtime.image.load import load_images
from podlite.runtime.image.service import StoreImageService
from podlite.runtime.image.store import EMBEDDED_NAME, ImageStore
from tests.support.images import Layout, TestImage, docker_archive

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

T = TypeVar("T")


@pytest.fixture
def service(tmp_path: Path) -> StoreImageService:
    return StoreImageService(ImageStore(str(tmp_path / "store")))


def call(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    async def run() -> T:
        return await function(*arguments)

    return anyio.run(run)


def load(service: StoreImageService, *images: TestImage) -> None:
    load_images(service.store, str(docker_archive(Path(service.store.layout.root).parent / "i.tar", images)))


def status(service: StoreImageService, reference: str) -> Image:
    image = call(service.image_status, ImageSpec(image=reference))
    assert image is not None
    return image


def test_it_is_the_seams_service(service: StoreImageService) -> None:
    seam: ImageService = service
    assert call(seam.image_status, ImageSpec(image="absent:1")) is None


def test_an_image_is_described_in_cris_terms(service: StoreImageService, tmp_path: Path) -> None:
    image = TestImage("", [{"f": b"x" * 1000}], {"User": "1000:2000"})
    layout = Layout()
    descriptor = layout.image(image)
    layout.add(descriptor, name="docker.io/library/demo:2")
    layout.add(descriptor, name="quay.io/x/demo:1")
    load_images(service.store, str(layout.write_directory(tmp_path / "layout")))
    found = status(service, "demo:2")
    assert found.id == image.id
    assert found.repo_tags == ["docker.io/library/demo:2", "quay.io/x/demo:1"]
    assert found.repo_digests == [
        f"docker.io/library/demo@{descriptor['digest']}",
        f"quay.io/x/demo@{descriptor['digest']}",
    ]
    assert (found.uid, found.username, found.pinned) == (1000, "", False)
    assert found.size == 1000 + len(image.config_blob())
    assert status(service, found.id) == status(service, found.repo_digests[0]) == found


def test_a_user_by_name_is_a_username(service: StoreImageService) -> None:
    load(service, TestImage("demo:1", [{"f": ""}], {"User": "app:staff"}))
    found = status(service, "demo:1")
    assert (found.uid, found.username) == (None, "app")


def test_the_list_has_every_image_and_the_embedded_one(service: StoreImageService) -> None:
    load(service, TestImage("demo:1", [{"f": ""}]), TestImage("demo:2", [{"g": ""}]))
    images = call(service.list_images)
    assert {tag for image in images for tag in image.repo_tags} == {
        "docker.io/library/demo:1",
        "docker.io/library/demo:2",
        EMBEDDED_NAME,
    }
    assert [image.repo_tags for image in images if image.pinned] == [[EMBEDDED_NAME]]
    (only,) = call(service.list_images, ImageSpec(image="demo:2"))
    assert only.repo_tags == ["docker.io/library/demo:2"]
    assert call(service.list_images, ImageSpec(image="absent:1")) == []


def test_removal_takes_all_tags_and_is_idempotent(service: StoreImageService) -> None:
    load(service, TestImage("demo:1", [{"f": ""}], extra_names=["demo:2"]))
    for _ in range(2):
        call(service.remove_image, ImageSpec(image="demo:1"))
    assert call(service.image_status, ImageSpec(image="demo:2")) is None


def test_where_no_registry_answers_the_message_begins_as_the_kubelet_expects(service: StoreImageService) -> None:
    """k8s.io/cri-api/pkg/errors: ErrRegistryUnavailable, known by the beginning of the message."""
    with pytest.raises(ImageError, match=r"^RegistryUnavailable: image 127\.0\.0\.1:1/x:1 cannot be pulled") as caught:
        call(service.pull_image, ImageSpec(image="127.0.0.1:1/x:1"))
    assert caught.value.reason == "RegistryUnavailable"


def test_pulling_by_a_name_that_is_none_has_the_kubelets_reason(service: StoreImageService) -> None:
    with pytest.raises(ImageError, match="couldn't parse image name") as caught:
        call(service.pull_image, ImageSpec(image="Bad Name"))
    assert caught.value.reason == "InvalidImageName"


def test_the_embedded_image_is_pulled_by_being_there(service: StoreImageService) -> None:
    id = call(service.pull_image, ImageSpec(image=EMBEDDED_NAME))
    assert status(service, EMBEDDED_NAME).id == id
    with pytest.raises(ImageError, match=r"there is no image podlite\.local/host:2"):
        call(service.pull_image, ImageSpec(image="podlite.local/host:2"))


def test_the_file_systems_use_is_told(service: StoreImageService) -> None:
    load(service, TestImage("demo:1", [{"f": b"x" * 10_000}]))
    (usage,) = call(service.image_fs_info)
    assert usage.mountpoint == service.store.layout.root
    assert usage.timestamp > 0
    assert usage.used_bytes is not None
    assert 10_000 <= usage.used_bytes < 1_000_000
    assert usage.inodes_used == 1
