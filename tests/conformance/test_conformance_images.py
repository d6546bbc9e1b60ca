"""runtime.v1.ImageService on the wire."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import grpc
import pytest

from podlite.runtime.image.load import load_images
from podlite.runtime.service import Runtime
from tests.conformance.test_conformance_runtime import code_of
from tests.support.cri_wire import HOST_IMAGE, Client
from tests.support.images import File, TestImage, docker_archive

pytestmark = [pytest.mark.root, pytest.mark.anyio]


async def test_the_life_of_an_image(client: Client, runtime: Runtime, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    made = TestImage("wire.example/demo:1", [{"file": File("content")}], config={"User": "1234:5"})
    docker_archive(archive, [made])
    await anyio.to_thread.run_sync(load_images, runtime.image_store, str(archive))
    image = (await client.ImageStatus(image={"image": "wire.example/demo:1"})).image
    assert list(image.repo_tags) == ["wire.example/demo:1"]
    assert (image.uid.value, image.username) == (1234, "")
    assert image.size > 0
    assert (await client.ImageStatus(image={"image": image.id})).image == image
    # Where containerd has it, for who asks `crictl inspecti` for an image's command or user.
    verbose = await client.ImageStatus(image={"image": image.id}, verbose=True)
    assert verbose.image == image
    assert json.loads(verbose.info["info"])["imageSpec"]["config"] == {"User": "1234:5"}
    assert image in (await client.ListImages()).images
    (only,) = (await client.ListImages(filter={"image": {"image": "wire.example/demo:1"}})).images
    assert only == image
    pages = [each async for each in client.StreamImages(filter={"image": {"image": image.id}})]
    assert [each.id for page in pages for each in page.images] == [image.id]
    for _ in range(2):
        await client.RemoveImage(image={"image": "wire.example/demo:1"})
    assert not (await client.ImageStatus(image={"image": "wire.example/demo:1"})).HasField("image")


async def test_errors(client: Client) -> None:
    for call in (client.ImageStatus(), client.PullImage(), client.RemoveImage()):
        assert (await code_of(call))[0] == grpc.StatusCode.INVALID_ARGUMENT
    code, sentence = await code_of(client.PullImage(image={"image": "podlite.local/none:1"}))
    assert (code, "podlite.local/none:1" in sentence) == (grpc.StatusCode.UNKNOWN, True)


async def test_the_embedded_image_is_there_and_stays(client: Client) -> None:
    reference = (await client.PullImage(image={"image": HOST_IMAGE})).image_ref
    image = (await client.ImageStatus(image={"image": HOST_IMAGE})).image
    assert image.id == reference
    assert image.pinned
    verbose = await client.ImageStatus(image={"image": HOST_IMAGE}, verbose=True)
    assert json.loads(verbose.info["info"])["imageSpec"]["os"] == "linux"


async def test_where_images_are(client: Client, runtime: Runtime) -> None:
    answer = await client.ImageFsInfo()
    (images,) = answer.image_filesystems
    assert images.fs_id.mountpoint == runtime.image_store.layout.root
    assert images.timestamp > 0
    # The kubelet takes two entries that are the same for one file system (KEP-4191).
    assert list(answer.container_filesystems) == [images]
