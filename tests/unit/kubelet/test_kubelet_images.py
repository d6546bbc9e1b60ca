"""Pull policies, image names, and pulls that are shared.

Sources: https://kubernetes.io/docs/concepts/containers/images/ and pkg/kubelet/images/image_manager_test.go,
Kubernetes 1.36; the names are from github.com/distribution/reference, reference_test.go.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from podlite.cri.errors import CRIError, ImageError
from podlite.cri.types import AuthConfig
from podlite.kubelet.backoff import BackOff
from podlite.kubelet.image_manager import (
    PULL,
    REFUSE,
    USE,
    EnsuredImage,
    ImageManager,
    effective_policy,
    pull_decision,
    pull_failure,
)
from podlite.kubelet.image_name import InvalidImageName, registry, with_default_tag
from podlite.kubelet.pull_records import PullCredential
from podlite.kubelet.types import KubeletError
from tests.support.clock import FakeClock, settle
from tests.support.fake_runtime import FakeImages
from tests.support.pods import a_pod


@pytest.mark.parametrize(
    ("policy", "present", "expected"),
    [
        ("Always", True, PULL),
        ("Always", False, PULL),
        ("IfNotPresent", True, USE),
        ("IfNotPresent", False, PULL),
        ("Never", True, USE),
        ("Never", False, REFUSE),
    ],
)
def test_pull_decision(policy: str, present: bool, expected: str) -> None:
    assert pull_decision(policy, present) == expected


def test_images_of_this_machine_are_never_pulled() -> None:
    assert effective_policy("Always", "podlite.local/host:1") == "Never"
    assert effective_policy("Always", "docker.io/podlite.local/host:1") == "Always"
    assert effective_policy("IfNotPresent", "busybox:latest") == "IfNotPresent"


DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("name", "expected", "of"),
    [
        ("busybox", "busybox:latest", "docker.io"),
        ("busybox:1.36", "busybox:1.36", "docker.io"),
        ("library/busybox", "library/busybox:latest", "docker.io"),
        ("foo_bar", "foo_bar:latest", "docker.io"),
        ("foo__bar.com", "foo__bar.com:latest", "docker.io"),
        ("foo/foo_bar.com:8080", "foo/foo_bar.com:8080", "docker.io"),
        ("test.com:8080/foo", "test.com:8080/foo:latest", "test.com:8080"),
        ("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000/repo:latest", "[2001:db8::1]:5000"),
        ("localhost/x", "localhost/x:latest", "localhost"),
        ("Uppercase/lowercase:tag", "Uppercase/lowercase:tag", "docker.io"),
        (f"busybox@{DIGEST}", f"busybox@{DIGEST}", "docker.io"),
        (f"quay.io/a/b:1@{DIGEST}", f"quay.io/a/b:1@{DIGEST}", "quay.io"),
        ("a--b/c---d", "a--b/c---d:latest", "docker.io"),
        ("podlite.local/host:1", "podlite.local/host:1", "podlite.local"),
    ],
)
def test_image_names(name: str, expected: str, of: str) -> None:
    assert with_default_tag(name) == expected
    assert registry(name) == of


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "invalid reference format"),
        (":justtag", "invalid reference format"),
        ("foo:::", "invalid reference format"),
        ("foo//bar", "invalid reference format"),
        ("-foo", "invalid reference format"),
        ("foo bar", "invalid reference format"),
        ("foo:" + "t" * 129, "invalid reference format"),
        ("a@sha256:short", "invalid reference format"),
        ("Uppercase:tag", "invalid reference format: repository name (library/Uppercase) must be lowercase"),
        ("test:5000/Uppercase/lowercase:tag",
         "invalid reference format: repository name (Uppercase/lowercase) must be lowercase"),
        ("x/" + "a" * 256, "repository name must not be more than 255 characters"),
        ("d" * 64, f"invalid repository name ({'d' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)  # fmt: skip
def test_names_that_are_none(name: str, problem: str) -> None:
    with pytest.raises(InvalidImageName) as caught:
        with_default_tag(name)
    assert str(caught.value) == f'couldn\'t parse image name "{name}": {problem}'


class _Manager:
    def __init__(self, tasks: Any, *auths: AuthConfig) -> None:
        self.clock = FakeClock()
        self.images = FakeImages(self.clock)
        self.told: list[tuple[str, str, str]] = []

        async def credentials(*asked: Any) -> list[PullCredential]:
            return [PullCredential(auth) for auth in auths]

        self.manager = ImageManager(self.images, self.clock, BackOff(self.clock, 10, 300), tasks, credentials)

    async def ensure(self, image: str, policy: str = "IfNotPresent", uid: str = "u") -> EnsuredImage:
        def record(*event: str) -> None:
            self.told.append(event)  # type: ignore[arg-type]

        return await self.manager.ensure(a_pod(uid=uid), image, policy, record)


@pytest.mark.anyio
async def test_pods_share_a_pull() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.pulls["big:latest"] = [10.0]
        results: list[EnsuredImage] = []

        async def pod(uid: str) -> None:
            results.append(await it.ensure("big", uid=uid))

        for uid in ("a", "b", "c"):
            tasks.start_soon(pod, uid)
        await it.clock.advance(11)
        assert it.images.pulled == ["big:latest"]
        assert len({each.ref for each in results}) == 1
        assert len(results) == 3
        assert [each[1] for each in it.told].count("Pulling") == 3


@pytest.mark.anyio
async def test_a_shared_pull_fails_for_all() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.pulls["bad:latest"] = [ImageError("no such image")]
        errors: list[str] = []

        async def pod(uid: str) -> None:
            with pytest.raises(KubeletError) as caught:
                await it.ensure("bad", uid=uid)
            errors.append(caught.value.reason)

        for uid in ("a", "b"):
            tasks.start_soon(pod, uid)
        await settle()
        assert errors == ["ErrImagePull", "ErrImagePull"]
        assert it.images.pulled == ["bad:latest"]


@pytest.mark.anyio
async def test_who_is_cancelled_does_not_end_the_pull_of_others() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.pulls["big:latest"] = [10.0]
        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        results: list[EnsuredImage] = []

        async def pod(scope: anyio.CancelScope, uid: str) -> None:
            with scope:
                results.append(await it.ensure("big", uid=uid))

        for index, scope in enumerate(scopes):
            tasks.start_soon(pod, scope, str(index))
        await it.clock.advance(5)
        scopes[0].cancel()
        await it.clock.advance(6)
        assert len(results) == 1
        assert it.images.cancelled == []


@pytest.mark.anyio
async def test_the_last_one_who_waits_ends_the_pull_and_the_next_begins_another() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.pulls["big:latest"] = [10.0]
        scope = anyio.CancelScope()
        results: list[EnsuredImage] = []

        async def pod(scope: anyio.CancelScope) -> None:
            with scope:
                results.append(await it.ensure("big"))

        tasks.start_soon(pod, scope)
        await it.clock.advance(3)
        scope.cancel()
        tasks.start_soon(pod, anyio.CancelScope())
        await it.clock.advance(12)
        assert it.images.cancelled == ["big:latest"]
        assert it.images.pulled == ["big:latest", "big:latest"]
        assert len(results) == 1


@pytest.mark.anyio
async def test_back_off_is_for_each_pod_and_image() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.pulls["bad:latest"] = [ImageError("gone"), ImageError("gone"), 0.0]

        async def reason(uid: str) -> str:
            try:
                await it.ensure("bad", uid=uid)
            except KubeletError as error:
                return f"{error.reason}: {error}"
            return "pulled"

        assert await reason("a") == "ErrImagePull: gone"
        assert await reason("a") == 'ImagePullBackOff: Back-off pulling image "bad": ErrImagePull: gone'
        assert await reason("b") == "ErrImagePull: gone"
        it.clock.tick(9.9)
        assert (await reason("a")).startswith("ImagePullBackOff")
        it.clock.tick(0.2)
        assert await reason("a") == "pulled"
        it.images.images.clear()
        it.images.pulls["bad:latest"] = [ImageError("gone"), 0.0]
        assert await reason("b") == "ErrImagePull: gone"
        assert (await reason("b")).startswith("ImagePullBackOff")
        it.manager.forget("b")
        assert await reason("b") == "pulled"


@pytest.mark.anyio
async def test_an_image_that_cannot_be_inspected() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.inspect_error = CRIError("the store is locked")
        with pytest.raises(KubeletError, match='Failed to inspect image "x:latest": the store is locked') as caught:
            await it.ensure("x")
        assert caught.value.reason == "ImageInspectError"
        assert it.told == [("Warning", "InspectFailed", 'Failed to inspect image "x:latest": the store is locked')]


@pytest.mark.anyio
async def test_always_asks_the_registry_though_the_image_is_there() -> None:
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks)
        it.images.add("x:latest")
        assert (await it.ensure("x")).image is not None
        assert it.images.pulled == []
        await it.ensure("x", "Always")
        assert it.images.pulled == ["x:latest"]


@pytest.mark.anyio
async def test_credentials_are_tried_until_one_works() -> None:
    first, second, third = (AuthConfig(username=name) for name in ("a", "b", "c"))
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks, first, second, third)
        it.images.pulls["x:latest"] = [ImageError("denied"), 0.0]
        assert (await it.ensure("x")).image is not None
        assert it.images.auths == [first, second]


@pytest.mark.anyio
async def test_when_none_works_all_reasons_are_told_each_once() -> None:
    """k8s.io/apimachinery/pkg/util/errors, Aggregate.Error."""
    async with anyio.create_task_group() as tasks:
        it = _Manager(tasks, *(AuthConfig(username=name) for name in "abc"))
        it.images.pulls["x:latest"] = [CRIError("denied"), CRIError("expired"), CRIError("denied")]
        with pytest.raises(KubeletError, match=r"^\[denied, expired\]$") as caught:
            await it.ensure("x")
        assert caught.value.reason == "ErrImagePull"
        assert ("Warning", "Failed", 'Failed to pull image "x": [denied, expired]') in it.told
        it = _Manager(tasks, *(AuthConfig(username=name) for name in "ab"))
        it.images.pulls["x:latest"] = [CRIError("denied")]
        with pytest.raises(KubeletError, match=r"^denied$"):
            await it.ensure("x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "RegistryUnavailable: dial tcp: refused",
            ("RegistryUnavailable", "image pull failed for x because the registry is unavailable: dial tcp: refused"),
        ),
        (
            "SignatureValidationFailed: no key",
            ("SignatureValidationFailed", "image pull failed for x because the signature validation failed: no key"),
        ),
        ("anything else", ("ErrImagePull", "anything else")),
    ],
)
def test_what_runtimes_say_by_the_beginning_of_a_message(text: str, expected: tuple[str, str]) -> None:
    """pkg/kubelet/images/image_manager.go, evalCRIPullErr."""
    assert pull_failure("x", CRIError(text)) == expected
    assert pull_failure("x", ImageError(text)) == expected
    assert pull_failure("x", ImageError("bad", reason="InvalidImageName")) == ("InvalidImageName", "bad")
