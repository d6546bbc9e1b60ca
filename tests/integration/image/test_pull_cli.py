"""podlite image pull, as a person or a script uses it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import TestImage
from tests.support.registry import PASSWORD, USER, Registry, serve_registry

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve_registry(tmp_path_factory.mktemp("registry"), password=True) as served:
        served.push(TestImage("cli/demo:1", [{"a": os.urandom(100_000)}, {"b": ""}]))
        yield served


class Scene:
    def __init__(self, directory: Path, registry: Registry) -> None:
        self.directory = directory
        self.host = registry.host
        self.name = f"{registry.host}/cli/demo:1"
        (directory / "home").mkdir()

    def command(self, *arguments: str) -> list[str]:
        directories = [f"--state-dir={self.directory}/state"]
        if arguments[0] in ("pull", "rm"):
            directories += [f"--{name}={self.directory}/{name}" for name in ("run-dir", "netns-dir", "log-dir")]
        return [sys.executable, "-m", "podlite", "image", *arguments, *directories]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": f"{self.directory}/home", "TERM": "xterm"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, env=self.environment
        )


@pytest.fixture
def scene(tmp_path: Path, registry: Registry) -> Scene:
    return Scene(tmp_path, registry)


def test_without_credentials_it_says_what_to_do(scene: Scene) -> None:
    done = scene.run("pull", scene.name)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"image {scene.name} cannot be pulled" in done.stderr
    assert "docker login" in done.stderr


def test_with_credentials_on_the_command_line(scene: Scene) -> None:
    done = scene.run("pull", "--creds", f"{USER}:{PASSWORD}", scene.name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sha256:")
    lines = done.stderr.splitlines()
    assert lines[0] == f"Pulling {scene.name}"
    assert sum("downloaded" in line for line in lines) == 2
    again = scene.run("pull", "--creds", f"{USER}:{PASSWORD}", scene.name)
    assert (again.stdout, "Image is up to date" in again.stderr) == (done.stdout, True)
    quiet = scene.run("pull", "-q", "--creds", f"{USER}:{PASSWORD}", scene.name)
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")
    repository = scene.name.rpartition(":")[0]
    rows = [line.split() for line in scene.run("ls", "--no-headers").stdout.splitlines()]
    assert [row[:2] for row in rows if row[0] == repository] == [[repository, "1"]]
    whole = [line.split() for line in scene.run("ls", "--no-headers", "--digests").stdout.splitlines()]
    assert {row[1][:8] for row in whole if row[0] == repository} == {"1", "@sha256:"}
    assert scene.run("rm", scene.name).returncode == 0


def test_with_dockers_file_or_another(scene: Scene) -> None:
    text = json.dumps({"auths": {scene.host: {"username": USER, "password": PASSWORD}}})
    (scene.directory / "auth.json").write_text(text)
    done = scene.run("pull", "-q", "--authfile", f"{scene.directory}/auth.json", scene.name)
    assert done.returncode == 0, done.stderr
    assert scene.run("pull", "-q", scene.name).returncode == 1
    (scene.directory / "home" / ".docker").mkdir()
    (scene.directory / "home" / ".docker" / "config.json").write_text(text)
    assert scene.run("pull", "-q", scene.name).returncode == 0
    assert "does not exist" in scene.run("pull", "--authfile", "/nonexistent", scene.name).stderr


def test_a_platform_that_is_not_there_and_one_that_is_none(scene: Scene) -> None:
    creds = ("--creds", f"{USER}:{PASSWORD}")
    assert "is not there for linux/s390x" in scene.run("pull", *creds, "--platform", "linux/s390x", scene.name).stderr
    done = scene.run("pull", *creds, "--platform", "a/b/c/d", scene.name)
    assert done.returncode == 2
    assert "is not a platform" in done.stderr


def test_on_a_terminal_there_is_a_bar_for_each_layer(scene: Scene) -> None:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        scene.command("pull", "--creds", f"{USER}:{PASSWORD}", scene.name),
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=child,
        env=scene.environment,
    )
    os.close(child)
    shown = b""
    try:
        while data := os.read(parent, 65536):
            shown += data
    except OSError:
        pass  # EIO: the other end is closed
    os.close(parent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown.decode()
    assert output.startswith(b"sha256:")
    text = shown.decode()
    assert text.count("done") >= 2
    assert "100%" in text
    assert "█" in text
