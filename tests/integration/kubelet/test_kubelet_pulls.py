"""Pods whose images come from a real registry: policies, secrets, reasons and events.

Sources: https://kubernetes.io/docs/concepts/containers/images/ and pkg/kubelet/images/image_manager.go, 1.36.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from podlite.api.config import Secret
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod
from podlite.api.references import LocalObjectReference
from podlite.kubelet.kubelet import Kubelet
from tests.support.images import TestImage, busybox_files
from tests.support.pods import a_pod, policy, with_fields
from tests.support.registry import PASSWORD, USER, Registry, free_port, serve_registry

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve_registry(tmp_path_factory.mktemp("registry"), password=True) as served:
        yield served


@pytest.fixture
def secret(registry: Registry) -> Secret:
    config = {"auths": {registry.host: {"username": USER, "password": PASSWORD}}}
    return Secret(
        metadata=ObjectMeta(name="pull", namespace="default"),
        type="kubernetes.io/dockerconfigjson",
        data={".dockerconfigjson": json.dumps(config).encode()},
    )


def app(name: str, says: str) -> TestImage:
    return TestImage(name, [busybox_files(), {"says": says}], {"Cmd": ["/bin/cat", "/says"]})


def pod_of(image: str, pull: str, *secrets: str) -> Pod:
    """A pod that runs what the image itself says."""
    fields: dict[str, Any] = {"image": image, "image_pull_policy": pull, "command": [], "args": []}
    references = [LocalObjectReference(name=name) for name in secrets]
    return a_pod(with_fields("c1", **fields), policy("Never"), uid="", image_pull_secrets=references)


async def until(kubelet: Kubelet, uid: str, wanted: Callable[[Pod], bool]) -> Pod:
    with anyio.fail_after(60), kubelet.watch(initial=True) as changes:
        async for change in changes:
            if change.pod.metadata.uid == uid and wanted(change.pod):
                return change.pod
    raise AssertionError("the watch ended")


async def over(kubelet: Kubelet, pod: Pod, *objects: Any) -> Pod:
    uid = (await kubelet.add_pod(pod, objects)).metadata.uid
    with anyio.fail_after(60):
        done = await kubelet.wait_terminated(uid)
    assert done.status.phase == "Succeeded", done.status
    await kubelet.delete_pod(uid, 0)
    await kubelet.wait_removed(uid)
    return done


def waits_for(reason: str) -> Callable[[Pod], bool]:
    def wanted(pod: Pod) -> bool:
        found = pod.status.container_statuses
        return bool(found) and found[0].state.waiting is not None and found[0].state.waiting.reason == reason

    return wanted


def told(kubelet: Kubelet) -> list[tuple[str, str, str]]:
    return [(event.type, event.reason, event.message) for event in kubelet.events()]


async def test_a_pod_pulls_with_its_secret(registry: Registry, kubelet: Kubelet, secret: Secret) -> None:
    descriptor = registry.push(app("team/app:1", "one"))
    name = f"{registry.host}/team/app:1"
    done = await over(kubelet, pod_of(name, "IfNotPresent", "pull"), secret)
    (status,) = done.status.container_statuses
    # As with containerd: the digest in the registry, by which everybody else can pull the same.
    assert (status.image, status.image_id) == (name, f"{registry.host}/team/app@{descriptor['digest']}")
    events = told(kubelet)
    assert ("Normal", "Pulling", f'Pulling image "{name}"') in events
    pulled = [message for _, reason, message in events if reason == "Pulled"]
    assert re.fullmatch(
        rf'Successfully pulled image "{re.escape(name)}" in \S+ \(\S+ including waiting\)\. Image size: \d+ bytes\.',
        pulled[0],
    )
    await over(kubelet, pod_of(name, "IfNotPresent", "pull"))
    assert f'Container image "{name}" already present on machine and can be accessed by the pod' in [
        message for _, reason, message in told(kubelet) if reason == "Pulled"
    ]


async def test_always_follows_a_tag_that_moves(registry: Registry, kubelet: Kubelet, secret: Secret) -> None:
    name = f"{registry.host}/moving/app:latest"
    ids = []
    for says in ("one", "two"):
        descriptor = registry.push(app("moving/app:latest", says))
        done = await over(kubelet, pod_of(name, "Always", "pull"), secret)
        (status,) = done.status.container_statuses
        assert status.image_id == f"{registry.host}/moving/app@{descriptor['digest']}"
        ids.append(status.image_id)
    assert ids[0] != ids[1]


async def test_without_its_secret_a_pod_waits_with_the_kubelets_reasons(registry: Registry, kubelet: Kubelet) -> None:
    registry.push(app("secret/app:1", "x"))
    name = f"{registry.host}/secret/app:1"
    uid = (await kubelet.add_pod(pod_of(name, "IfNotPresent", "gone"))).metadata.uid
    pod = await until(kubelet, uid, waits_for("ErrImagePull"))
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    why = f"image {name} cannot be pulled: "
    assert waiting.message.startswith(why)
    pod = await until(kubelet, uid, waits_for("ImagePullBackOff"))
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    assert waiting.message.startswith(f'Back-off pulling image "{name}": ErrImagePull: {why}')
    assert pod.status.phase == "Pending"
    events = told(kubelet)
    assert any(
        (type, reason) == ("Warning", "Failed") and message.startswith(f'Failed to pull image "{name}": {why}')
        for type, reason, message in events
    )
    assert ("Warning", "Failed", "Error: ErrImagePull") in events
    assert ("Normal", "BackOff", f'Back-off pulling image "{name}"') in events
    assert (
        "Warning",
        "FailedToRetrieveImagePullSecret",
        "Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed.",
    ) in events


async def test_where_no_registry_answers_the_reason_says_so(kubelet: Kubelet) -> None:
    """pkg/kubelet/images/image_manager.go, evalCRIPullErr."""
    name = f"127.0.0.1:{free_port()}/x:1"
    uid = (await kubelet.add_pod(pod_of(name, "IfNotPresent"))).metadata.uid
    pod = await until(kubelet, uid, waits_for("RegistryUnavailable"))
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    start = f"image pull failed for {name} because the registry is unavailable: image {name} cannot be pulled: "
    assert waiting.message.startswith(start)
    assert ("Warning", "Failed", "Error: RegistryUnavailable") in told(kubelet)
    await until(kubelet, uid, waits_for("ImagePullBackOff"))


async def test_never_does_not_ask(kubelet: Kubelet, tmp_path: Path) -> None:
    name = f"127.0.0.1:{free_port()}/x:1"
    uid = (await kubelet.add_pod(pod_of(name, "Never"))).metadata.uid
    await until(kubelet, uid, waits_for("ErrImageNeverPull"))


async def test_an_image_that_a_secret_pulled_is_not_for_pods_without_it(
    registry: Registry, kubelet: Kubelet, secret: Secret
) -> None:
    """KEP-2535: the registry decides, though the image is here."""
    registry.push(app("private/app:1", "x"))
    name = f"{registry.host}/private/app:1"
    await over(kubelet, pod_of(name, "IfNotPresent", "pull"), secret)
    uid = (await kubelet.add_pod(pod_of(name, "IfNotPresent"))).metadata.uid
    pod = await until(kubelet, uid, waits_for("ErrImagePull"))
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    assert "it is not for everybody" in waiting.message
    await kubelet.delete_pod(uid, 0)
    await kubelet.wait_removed(uid)
    await over(kubelet, pod_of(name, "IfNotPresent", "pull"))
