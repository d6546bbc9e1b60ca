"""Builds images for tests in pure Python: layers from a dict of files, then archives and layouts of every kind.

    image = TestImage("docker.io/library/demo:1", [{"bin/": Dir(), "bin/hello": File(b"...", mode=0o755)}])
    docker_archive(tmp_path / "demo.tar", [image])
    oci_layout(tmp_path / "layout", [image])
    oci_archive(tmp_path / "oci.tar", [image], compression="gzip")

A plain `bytes` or `str` value stands for a file of mode 0644; keys are archive member names, used as they are.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

# What `uname -m` says of this machine, in Go's terms.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


@dataclass
class Node:
    """Any member of an archive; the subclasses set `type`."""

    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 1_600_000_000
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    type: bytes = tarfile.REGTYPE
    content: bytes = b""
    target: str = ""
    major: int = 0
    minor: int = 0


def File(content: bytes | str = b"", mode: int = 0o644, **attributes: Any) -> Node:
    raw = content.encode() if isinstance(content, str) else content
    return Node(content=raw, mode=mode, **attributes)


def Dir(mode: int = 0o755, **attributes: Any) -> Node:
    return Node(type=tarfile.DIRTYPE, mode=mode, **attributes)


def Symlink(target: str, **attributes: Any) -> Node:
    return Node(type=tarfile.SYMTYPE, mode=0o777, target=target, **attributes)


def HardLink(target: str, **attributes: Any) -> Node:
    return Node(type=tarfile.LNKTYPE, target=target, **attributes)


def Device(major: int, minor: int, *, block: bool = False) -> Node:
    return Node(type=tarfile.BLKTYPE if block else tarfile.CHRTYPE, major=major, minor=minor)


def Fifo(mode: int = 0o600) -> Node:
    return Node(type=tarfile.FIFOTYPE, mode=mode)


# The values are Node, bytes or str; a literal that mixes them would not pass for a mapping to their union.
Files = Mapping[str, Any] | Sequence[tuple[str, Any]]


def layer_tar(files: Files, *, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed layer. A sequence of pairs may name a member twice."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, node in files.items() if isinstance(files, Mapping) else files:
            if not isinstance(node, Node):
                node = File(node)
            member = tarfile.TarInfo()
            # The constructor and addfile() would tidy the name up.
            member.name = name
            member.type = node.type
            member.mode, member.uid, member.gid = node.mode, node.uid, node.gid
            member.mtime = node.mtime if node.mtime != int(node.mtime) else int(node.mtime)
            member.linkname = node.target
            member.devmajor, member.devminor = node.major, node.minor
            member.size = len(node.content)
            member.pax_headers = {
                f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in node.xattrs.items()
            }
            archive.addfile(member, io.BytesIO(node.content))
    return out.getvalue()


def sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def busybox_files(*applets: str) -> dict[str, Node]:
    """/bin/busybox of this machine (Debian's busybox-static) and links for the applets; skips the test without it."""
    path = Path("/bin/busybox")
    if not path.exists():
        import pytest

        pytest.skip("needs /bin/busybox (Debian: busybox-static)")
    files = {"bin/": Dir(), "bin/busybox": File(path.read_bytes(), mode=0o755)}
    for applet in applets or ("sh", "echo", "cat", "ls", "id", "true", "sleep", "test"):
        files[f"bin/{applet}"] = Symlink("busybox")
    return files


@dataclass
class TestImage:
    """One image for one platform. `layers` are dicts of files or ready tar archives, lowest first."""

    __test__ = False

    name: str = ""
    layers: Sequence[Files | bytes] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ARCHITECTURE
    os: str = "linux"
    variant: str = ""
    extra_names: Sequence[str] = ()

    def tars(self) -> list[bytes]:
        return [layer if isinstance(layer, bytes) else layer_tar(layer) for layer in self.layers]

    def config_blob(self) -> bytes:
        document: dict[str, Any] = {
            "architecture": self.architecture,
            "os": self.os,
            "created": "2026-01-02T03:04:05Z",
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in self.tars()]},
            "history": [],
        }
        if self.variant:
            document["variant"] = self.variant
        return json.dumps(document).encode()

    @property
    def id(self) -> str:
        return sha256(self.config_blob())

    @property
    def names(self) -> list[str]:
        return [name for name in (self.name, *self.extra_names) if name]


def compress(raw: bytes, compression: str) -> bytes:
    """`none`, `gzip`, `bzip2`, `xz` or `zstd` (which needs the zstandard package)."""
    if compression == "gzip":
        return gzip.compress(raw, 1, mtime=0)
    if compression == "bzip2":
        import bz2

        return bz2.compress(raw)
    if compression == "xz":
        import lzma

        return lzma.compress(raw)
    if compression == "zstd":
        import zstandard

        return bytes(zstandard.ZstdCompressor().compress(raw))
    return raw


def _write_tar(path: Path, members: Iterable[tuple[str, Node]], compression: str) -> Path:
    path.write_bytes(compress(layer_tar(list(members), format=tarfile.USTAR_FORMAT), compression))
    return path


def docker_archive(path: Path, images: Sequence[TestImage], *, compression: str = "none") -> Path:
    """What `docker save` wrote from 1.10 on: <config>.json, <id>/layer.tar, links for layers met before."""
    members: dict[str, Node] = {}
    manifest = []
    first: dict[str, str] = {}
    for image in images:
        config = image.config_blob()
        config_name = f"{sha256(config).removeprefix('sha256:')}.json"
        members[config_name] = File(config)
        layers = []
        for number, tar in enumerate(image.tars()):
            directory = sha256(f"{image.id} {number}".encode()).removeprefix("sha256:")
            member = f"{directory}/layer.tar"
            members[f"{directory}/VERSION"] = File("1.0")
            if sha256(tar) in first:
                members[member] = Symlink(f"../{first[sha256(tar)]}")
            else:
                members[member] = File(tar)
                first[sha256(tar)] = member
            layers.append(member)
        manifest.append({"Config": config_name, "RepoTags": image.names or None, "Layers": layers})
    members["manifest.json"] = File(json.dumps(manifest))
    return _write_tar(path, members.items(), compression)


@dataclass
class Layout:
    """An OCI layout under construction: `files` maps member names to contents."""

    files: dict[str, bytes] = field(default_factory=lambda: {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'})
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, raw: bytes, media_type: str) -> dict[str, Any]:
        """Adds a blob; returns its descriptor."""
        digest = sha256(raw)
        self.files[f"blobs/sha256/{digest.removeprefix('sha256:')}"] = raw
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def image(self, image: TestImage, *, layers: str = "gzip", docker: bool = False) -> dict[str, Any]:
        """Adds an image's blobs, its layers compressed as `layers` says; returns the manifest's descriptor."""
        suffix = {"gzip": "+gzip", "zstd": "+zstd"}.get(layers, "")
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": self.blob(image.config_blob(), DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [
                self.blob(compress(tar, layers), DOCKER_LAYER if docker else OCI_LAYER + suffix) for tar in image.tars()
            ],
        }
        descriptor = self.blob(json.dumps(manifest).encode(), str(manifest["mediaType"]))
        platform = {"architecture": image.architecture, "os": image.os}
        if image.variant:
            platform["variant"] = image.variant
        return {**descriptor, "platform": platform}

    def index(self, manifests: Sequence[Mapping[str, Any]], *, docker: bool = False) -> dict[str, Any]:
        """Adds an index of these descriptors; returns its own."""
        media_type = DOCKER_LIST if docker else OCI_INDEX
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}).encode()
        return self.blob(raw, media_type)

    def attestation(self, of: Mapping[str, Any]) -> dict[str, Any]:
        """Adds what BuildKit attaches: a manifest for the platform unknown/unknown."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(b'{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers"}}', OCI_CONFIG),
            "layers": [self.blob(b'{"_type":"https://in-toto.io/Statement/v0.1"}', "application/vnd.in-toto+json")],
        }
        return {
            **self.blob(json.dumps(manifest).encode(), OCI_MANIFEST),
            "platform": {"architecture": "unknown", "os": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": of["digest"],
            },
        }

    def add(self, descriptor: Mapping[str, Any], **annotations: str) -> None:
        """Lists a descriptor in index.json; `name` and `ref_name` are the two annotations for names."""
        keys = {"name": "io.containerd.image.name", "ref_name": "org.opencontainers.image.ref.name"}
        stated = {keys.get(key, key): value for key, value in annotations.items()}
        self.manifests.append({**descriptor, **({"annotations": stated} if stated else {})})

    def all_files(self) -> dict[str, bytes]:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.manifests}
        return {**self.files, "index.json": json.dumps(index).encode()}

    def write_directory(self, path: Path) -> Path:
        for name, content in self.all_files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path

    def write_archive(self, path: Path, *, compression: str = "none") -> Path:
        members = [(name, File(content)) for name, content in self.all_files().items()]
        return _write_tar(path, members, compression)


def _layout(images: Sequence[TestImage], layers: str) -> Layout:
    layout = Layout()
    for image in images:
        descriptor = layout.image(image, layers=layers)
        for name in image.names or [""]:
            layout.add(descriptor, **({"name": name} if name else {}))
    return layout


def oci_layout(path: Path, images: Sequence[TestImage], *, layers: str = "gzip") -> Path:
    """An OCI layout directory."""
    return _layout(images, layers).write_directory(path)


def oci_archive(path: Path, images: Sequence[TestImage], *, layers: str = "gzip", compression: str = "none") -> Path:
    """An OCI layout in a tar archive."""
    return _layout(images, layers).write_archive(path, compression=compression)
