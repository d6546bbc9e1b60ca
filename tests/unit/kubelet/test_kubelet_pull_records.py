"""Who may use an image that somebody's secret has pulled.

Sources: KEP-2535, pkg/kubelet/images/pullmanager/image_pull_manager_test.go, Kubernetes 1.36.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from podlite.cri.errors import ImageError
from podlite.cri.types import AuthConfig
from podlite.kubelet.backoff import BackOff
from podlite.kubelet.image_manager import ImageManager
from podlite.kubelet.pull_records import (
    Grants,
    PullCredential,
    Pulled,
    PullRecords,
    PullSecret,
    credential_hash,
    is_accessible,
    merge,
)
from podlite.kubelet.types import KubeletError
from tests.support.clock import FakeClock
from tests.support.fake_runtime import FakeImages
from tests.support.pods import a_pod

A = PullSecret("u1", "ns", "a", "hash-a")
A_ROTATED = PullSecret("u1", "ns", "a", "hash-a2")
A_COPY = PullSecret("u2", "other", "copy", "hash-a")
B = PullSecret("u3", "ns", "b", "hash-b")
NO_HASH = PullSecret("u4", "ns", "x", "")


@pytest.mark.parametrize(
    ("pulled", "secrets", "expected"),
    [
        (Pulled(), [], True),
        (Pulled(by_kubelet=True), [], False),
        (Pulled(by_kubelet=True), [A], False),
        (Pulled(by_kubelet=True, grants=Grants(node_pods_accessible=True)), [], True),
        (Pulled(by_kubelet=True, grants=Grants()), [A], False),
        (Pulled(by_kubelet=True, grants=Grants([A])), [], False),
        (Pulled(by_kubelet=True, grants=Grants([A])), [A], True),
        (Pulled(by_kubelet=True, grants=Grants([A])), [B], False),
        (Pulled(by_kubelet=True, grants=Grants([A])), [B, A_COPY], True),
        (Pulled(by_kubelet=True, grants=Grants([A])), [A_ROTATED], True),
        (Pulled(by_kubelet=True, grants=Grants([NO_HASH])), [PullSecret("u5", "ns", "y", "")], False),
    ],
)
def test_who_may(pulled: Pulled, secrets: list[PullSecret], expected: bool) -> None:
    assert is_accessible(pulled, secrets) == expected


def test_what_is_known_grows() -> None:
    assert merge(None, None) == Grants(node_pods_accessible=True)
    assert merge(None, B) == Grants([B])
    assert merge(Grants([B]), A) == Grants([A, B])
    assert merge(Grants([A, B]), A_ROTATED) == Grants([A_ROTATED, B])
    assert merge(Grants([A]), None) == Grants(node_pods_accessible=True)
    assert merge(Grants(node_pods_accessible=True), A) == Grants(node_pods_accessible=True)
    many = [PullSecret(str(n), "ns", f"{n:03}", "") for n in range(100)]
    assert len(merge(Grants(many), A).kubernetes_secrets) == 100


def test_the_records_are_the_kubelets(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    assert records.look_up("r.io/x:1", "sha256:1", "r.io/x") == Pulled()
    records.begin("r.io/x:1")
    assert records.look_up("r.io/x:1", "sha256:1", "r.io/x") == Pulled(by_kubelet=True)
    records.add("sha256:1", "r.io/x", A)
    records.finish("r.io/x:1")
    records.finish("r.io/x:1")
    assert records.look_up("r.io/x:1", "sha256:1", "r.io/x") == Pulled(by_kubelet=True, grants=Grants([A]))
    # The same image by another repository is not the same secret's.
    assert records.look_up("q.io/y:1", "sha256:1", "q.io/y") == Pulled(by_kubelet=True)
    (name,) = os.listdir(tmp_path / "pulled")
    raw = json.loads((tmp_path / "pulled" / name).read_text())
    assert raw["kind"] == "ImagePulledRecord"
    assert raw["imageRef"] == "sha256:1"
    assert raw["credentialMapping"] == {
        "r.io/x": {"kubernetesSecrets": [{"uid": "u1", "namespace": "ns", "name": "a", "credentialHash": "hash-a"}]}
    }
    assert os.stat(tmp_path / "pulled" / name).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "pulling") == []


def test_a_damaged_record_allows_nobody_and_is_replaced(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    records.begin("x")
    records.add("sha256:1", "r.io/x", None)
    (name,) = os.listdir(tmp_path / "pulled")
    (tmp_path / "pulled" / name).write_text("{")
    assert not is_accessible(records.look_up("y", "sha256:1", "r.io/x"), [A])
    records.add("sha256:1", "r.io/x", A)
    assert is_accessible(records.look_up("y", "sha256:1", "r.io/x"), [A])


def test_records_go_with_their_images(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    records.prune([], time.time())
    records.begin("x")
    for image in ("sha256:1", "sha256:2"):
        records.add(image, "r.io/x", A)
    records.prune(["sha256:1"], time.time() - 3600)
    assert len(os.listdir(tmp_path / "pulled")) == 2
    records.prune(["sha256:1"], time.time() + 1)
    assert records.look_up("y", "sha256:1", "r.io/x").grants is not None
    assert records.look_up("y", "sha256:2", "r.io/x") == Pulled()


class Scene:
    """An image manager with records, and pods with one secret or none."""

    def __init__(self, directory: Path, tasks: Any) -> None:
        self.clock = FakeClock()
        self.images = FakeImages(self.clock)
        self.credentials: list[PullCredential] = []
        self.told: list[tuple[str, ...]] = []
        self.directory = directory
        self._tasks = tasks
        self.restart()

    def restart(self) -> None:
        """Another kubelet on the same directory."""
        back_off = BackOff(self.clock, 10, 300)
        self.manager = ImageManager(
            self.images, self.clock, back_off, self._tasks, self._find, str(self.directory / "image_manager")
        )

    async def _find(self, *asked: Any) -> list[PullCredential]:
        return self.credentials

    async def ensure(self, uid: str, *users: str, policy: str = "IfNotPresent") -> str:
        self.credentials = [
            PullCredential(auth, PullSecret(f"uid-{user}", "default", user, credential_hash(auth)))
            for user in users
            for auth in [AuthConfig(username=user, password="p")]
        ]
        try:
            await self.manager.ensure(a_pod(uid=uid), "r.io/x:1", policy, lambda *event: self.told.append(event))
        except KubeletError as error:
            return error.reason
        return "ok"


@pytest.mark.anyio
async def test_a_pod_without_the_secret_asks_the_registry_itself(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        it = Scene(tmp_path, tasks)
        assert await it.ensure("1", "alice") == "ok"
        assert await it.ensure("2", "alice") == "ok"
        assert it.images.pulled == ["r.io/x:1"]
        it.images.pulls["r.io/x:1"] = [ImageError("denied")]
        assert await it.ensure("3") == "ErrImagePull"
        assert await it.ensure("4", "mallory") == "ErrImagePull"
        # That it is here is nobody's business.
        assert await it.ensure("5", policy="Never") == "ErrImageNeverPull"
        it.restart()
        assert await it.ensure("6", "alice", policy="Never") == "ok"
        it.images.pulls["r.io/x:1"] = [0.0]
        assert await it.ensure("7", "bob") == "ok"
        assert await it.ensure("8", "bob", policy="Never") == "ok"
        # Pulled without credentials it is everybody's.
        assert await it.ensure("9") == "ok"
        assert await it.ensure("10", policy="Never") == "ok"


@pytest.mark.anyio
async def test_what_the_kubelet_did_not_pull_is_everybodys(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        it = Scene(tmp_path, tasks)
        it.images.add("r.io/x:1")
        assert await it.ensure("1", policy="Never") == "ok"
        assert it.images.pulled == []


@pytest.mark.anyio
async def test_a_kubelet_that_was_killed_in_a_pull_does_not_take_the_image_for_preloaded(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        it = Scene(tmp_path, tasks)
        PullRecords(str(tmp_path / "image_manager")).begin("r.io/x:1")
        it.images.add("r.io/x:1")
        assert await it.ensure("1", policy="Never") == "ErrImageNeverPull"
        assert await it.ensure("2", "alice") == "ok"
        assert it.images.pulled == ["r.io/x:1"]
        assert os.listdir(tmp_path / "image_manager" / "pulling") == []
