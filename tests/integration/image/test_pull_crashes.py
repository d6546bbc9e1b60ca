"""Pulls that are killed: what they leave is nothing wrong, and the next one goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlite.steps import FAULTS_VARIABLE
from tests.support.fault_registry import FaultRegistry, hold
from tests.support.image_worker import check_store
from tests.support.images import Layout, TestImage, sha256
from tests.support.pulls import Puller

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ROOT = Path(__file__).resolve().parents[3]
NAME = "registry.test/demo:1"

# The process that is killed: the test's own pull, with faults from the environment.
SOURCE = f"""
import os, sys
from pathlib import Path
from podlite.steps import inject_from_environment
from tests.support.pulls import Puller
inject_from_environment(os.environ)
Puller(Path(sys.argv[1])).pull('{NAME}')
"""


class Scene:
    """A registry with an image of three layers, each of which says what the other files must be, and a store."""

    def __init__(self, directory: Path, registry: FaultRegistry) -> None:
        self.registry = registry
        self.puller = Puller(directory)
        self.puller.plain("registry.test", registry.url)
        layers = []
        for number in range(3):
            content = os.urandom(750_000).hex()
            layers.append({f"data-{number}": content, f"sum-{number}": content})
        self.image = TestImage("", layers)
        layout = Layout()
        registry.add("demo", "1", layout, layout.image(self.image, layers="none"))
        self.blobs = [f"GET /v2/demo/blobs/{sha256(tar)}" for tar in self.image.tars()]

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SOURCE, str(self.puller.certs.parent)]
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE)

    def check(self, *, there: bool) -> None:
        """The store is whole, whatever happened, and a pull makes it right."""
        names = check_store(self.puller.store)
        assert (NAME in names) == there
        assert self.puller.pull(NAME).id == self.image.id
        assert check_store(self.puller.store)[NAME] == self.image.id
        assert self.puller.left() == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with FaultRegistry() as registry:
        yield Scene(tmp_path, registry)


def wait_killed(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors.decode()


@pytest.mark.parametrize(
    "fault",
    [
        "image.resolve=kill",
        "image.download=kill",
        "image.download=2*off->kill",
        "image.unpack=kill",
        "image.unpack=1*off->kill",
        "image.unpack=2*off->kill",
        "image.commit=kill",
    ],
)
def test_killed_at_a_step(scene: Scene, fault: str) -> None:
    wait_killed(scene.start(**{FAULTS_VARIABLE: fault}))
    scene.check(there=False)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("after", [0, 1, 1_200_000, 2_999_999])
def test_killed_in_the_middle_of_a_layer(scene: Scene, layer: int, after: int) -> None:
    """At a byte, whatever the other layers are doing; what was written is not fetched again."""
    never = threading.Event()
    scene.registry.on(scene.blobs[layer], hold(after, never))
    process = scene.start()
    scene.registry.wait_for(scene.blobs[layer])
    ingest = Path(scene.puller.store.layout.ingest, scene.blobs[layer].rpartition(":")[2])
    # What was sent has been taken: whole pieces of a mebibyte.
    while after >= 1 << 20 and (not ingest.exists() or ingest.stat().st_size < 1 << 20):
        assert process.poll() is None
    process.kill()
    wait_killed(process)
    never.set()
    kept = ingest.stat().st_size if ingest.exists() else 0
    assert kept >= (1 << 20 if after >= 1 << 20 else 0)
    scene.check(there=False)
    again = scene.registry.seen(scene.blobs[layer])[1]
    assert again.headers.get("Range") == (f"bytes={kept}-" if kept else None)


@pytest.mark.parametrize("request_number", range(1, 6))
def test_killed_while_a_request_is_answered(scene: Scene, request_number: int) -> None:
    """The manifest, the configuration, and each of the layers."""
    never = threading.Event()
    answers = [lambda request, good: good] * (request_number - 1)
    scene.registry.on("GET", *answers, hold(0, never))
    process = scene.start()
    scene.registry.wait_for("GET", request_number)
    process.kill()
    wait_killed(process)
    never.set()
    scene.check(there=False)


def test_killed_while_another_pull_waits_for_it(scene: Scene) -> None:
    """The one that waits takes over where the dead one was."""
    never = threading.Event()
    scene.registry.on(scene.blobs[0], hold(2_000_000, never))
    first = scene.start()
    scene.registry.wait_for(scene.blobs[0])
    second = scene.start()
    scene.registry.wait_for("/manifests/1", 2)
    first.kill()
    wait_killed(first)
    never.set()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors.decode()
    scene.check(there=True)
