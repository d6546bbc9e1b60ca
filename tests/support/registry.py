"""A real registry for tests: Debian's docker-registry on a free port of loopback, and a client that fills it.

with serve_registry(tmp_path) as registry:
    registry.push(TestImage("demo:1", [{...}]))
    podlite image pull {registry.host}/demo:1
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.images import Layout, TestImage, sha256

# A name and a password, and the line of an htpasswd file for them (bcrypt, the only kind that docker-registry takes).
USER, PASSWORD = "podlite", "a test's password"
HTPASSWD = "podlite:$2y$05$hwfGnK3iPN9iqv655bigJO8osVZquwNDb66TCp/1G5vIf9sUTFpNe"


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Registry:
    """A registry that runs; `host` is what stands in an image's name."""

    host: str
    url: str
    data: Path
    auth: tuple[str, str] | None = None
    ca: Path | None = None
    pid: int = 0
    pushed: dict[str, str] = field(default_factory=dict)

    def client(self) -> httpx.Client:
        verify: ssl.SSLContext | bool = True
        if self.ca is not None:
            verify = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(base_url=self.url, auth=self.auth, verify=verify, trust_env=False, timeout=30)

    def push(self, image: TestImage, *, layers: str = "gzip", docker: bool = False) -> dict[str, Any]:
        """Pushes an image under its names (`repository:tag`, without the host); returns its manifest's descriptor."""
        layout = Layout()
        descriptor = layout.image(image, layers=layers, docker=docker)
        for name in image.names:
            repository, _, tag = name.rpartition(":")
            self.push_layout(layout, repository, {tag: descriptor})
        return descriptor

    def push_layout(self, layout: Layout, repository: str, tags: Mapping[str, Mapping[str, Any]]) -> None:
        """Pushes everything that the descriptors in `tags` lead to, and then the tags."""
        with self.client() as client:
            for tag, descriptor in tags.items():
                self._push(client, layout, repository, descriptor)
                self._put(client, layout, repository, tag, descriptor)

    def _push(self, client: httpx.Client, layout: Layout, repository: str, descriptor: Mapping[str, Any]) -> None:
        document = json.loads(layout.files[_path(descriptor["digest"])])
        for manifest in document.get("manifests", ()):
            self._push(client, layout, repository, manifest)
            self._put(client, layout, repository, manifest["digest"], manifest)
        for blob in (*document.get("layers", ()), *filter(None, [document.get("config")])):
            self.push_blob(client, repository, layout.files[_path(blob["digest"])])

    def push_blob(self, client: httpx.Client, repository: str, raw: bytes) -> None:
        """Uploads a blob in one piece (distribution-spec, "POST then PUT")."""
        started = client.post(f"/v2/{repository}/blobs/uploads/")
        started.raise_for_status()
        location = httpx.URL(started.headers["Location"])
        location = location.copy_merge_params({"digest": sha256(raw)})
        client.put(location, content=raw, headers={"Content-Type": "application/octet-stream"}).raise_for_status()

    def _put(
        self, client: httpx.Client, layout: Layout, repository: str, reference: str, descriptor: Mapping[str, Any]
    ) -> None:
        raw = layout.files[_path(descriptor["digest"])]
        client.put(
            f"/v2/{repository}/manifests/{reference}", content=raw, headers={"Content-Type": descriptor["mediaType"]}
        ).raise_for_status()


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


@contextmanager
def serve_registry(
    directory: Path, *, password: bool = False, tls: tuple[Path, Path, Path] | None = None, host: str = "127.0.0.1"
) -> Iterator[Registry]:
    """Runs docker-registry for as long as the context lasts; skips the test where it is not installed.

    `tls` are the files of an authority, a certificate for `host`, and its key.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry (Debian: docker-registry)")
    port = free_port()
    data = directory / f"registry-{port}"
    data.mkdir()
    config: dict[str, Any] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(data / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "tests"},
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    if password:
        (data / "htpasswd").write_text(f"{HTPASSWD}\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(data / "htpasswd")}}
    if tls is not None:
        config["http"]["tls"] = {"certificate": str(tls[1]), "key": str(tls[2])}
    # YAML is a superset of JSON.
    (data / "config.yml").write_text(json.dumps(config))
    log = (data / "log").open("wb")
    process = subprocess.Popen(
        [program, "serve", str(data / "config.yml")],
        stdout=log,
        stderr=log,
        env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
    )
    scheme = "https" if tls is not None else "http"
    registry = Registry(
        f"{host}:{port}",
        f"{scheme}://{host}:{port}",
        data / "data",
        auth=(USER, PASSWORD) if password else None,
        ca=None if tls is None else tls[0],
        pid=process.pid,
    )
    try:
        _wait(process, port, data / "log")
        yield registry
    finally:
        process.terminate()
        process.wait()
        log.close()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None:
                pytest.fail(f"docker-registry ended by itself: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
