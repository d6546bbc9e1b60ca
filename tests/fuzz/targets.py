"""What is fuzzed: each target takes bytes and either makes sense of them or refuses them in the way that it says.

Anything else (another exception, a hang, memory without bound) is a finding. The hypothesis tests run them on what
hypothesis makes up, and `fuzz.py` on what atheris finds by coverage.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable

import msgspec

from podlite.agent.api.errors import ApiError
from podlite.agent.api.negotiate import negotiate
from podlite.agent.api.selectors import field_selector, label_selector
from podlite.agent.sources.manifests import ManifestSource
from podlite.api.decode import from_builtins
from podlite.api.manifest import load_manifests
from podlite.api.pod import Pod
from podlite.api.problems import ManifestError
from podlite.cli.jsonpath import JsonPathError, Template
from podlite.cri.errors import CRIError
from podlite.kubelet.log_lines import parse_line
from podlite.runtime.adopt import recorded_containers
from podlite.runtime.image.limits import Limits
from podlite.runtime.image.reference import parse_reference
from podlite.runtime.image.tar import TarError, TarReader
from podlite.runtime.image.unpack import unpack_layer
from podlite.runtime.journal import load as load_record


def manifests(data: bytes) -> None:
    """A manifest, as a user gives it."""
    try:
        load_manifests([("fuzz", data)])
    except ManifestError as error:
        assert str(error)


def manifest_source(data: bytes) -> None:
    """A manifest that the agent finds."""
    ManifestSource("file", "node").read("/fuzz", data, "2026-11-23T20:00:00Z")


def stored_pod(data: bytes) -> None:
    """A pod that was written down, by us or by somebody else."""
    try:
        from_builtins(msgspec.json.decode(data), Pod)
    except ValueError:
        pass


def record(data: bytes) -> None:
    """A runtime's record of a sandbox."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            recorded_containers(load_record(file.name))
        except ValueError:
            pass


def tar(data: bytes) -> None:
    """An archive, member by member."""
    try:
        reader = TarReader(iter([data[at : at + 700] for at in range(0, len(data), 700)]))
        while reader.next_entry() is not None:
            for _ in reader.data():
                pass
    except TarError:
        pass


def layer(data: bytes) -> None:
    """A layer, unpacked. Nothing may come to be outside of its directory."""
    base = tempfile.mkdtemp(prefix="podlite-fuzz-")
    try:
        target = f"{base}/layer"
        os.mkdir(target, 0o755)
        try:
            unpack_layer(io.BytesIO(data).read, target, limits=Limits(1 << 20, 1000, 250, 1 << 20))
        except CRIError:
            pass
        assert os.listdir(base) == ["layer"]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def log_line(data: bytes) -> None:
    """A line of a container's log, which a container may have written to."""
    parse_line(data)


def selectors(data: bytes) -> None:
    """Selectors of a request."""
    text = data.decode("utf-8", "replace")
    for read in (label_selector, lambda text: field_selector("pods", text)):
        try:
            read(text)
        except ApiError as error:
            assert error.code == 400


def reference(data: bytes) -> None:
    """An image's name."""
    try:
        parse_reference(data.decode("utf-8", "replace"))
    except (CRIError, ValueError):
        pass


def jsonpath(data: bytes) -> None:
    """A template of -o jsonpath, on an object that has a bit of everything."""
    try:
        Template(data.decode("utf-8", "replace")).render(
            {"items": [{"metadata": {"name": "web", "labels": {"a/b.c": "d"}}, "ready": True, "n": [1, 2.5, None]}]}
        )
    except JsonPathError as error:
        assert str(error)


def accept(data: bytes) -> None:
    """The Accept header of a request."""
    try:
        negotiate(data.decode("latin-1"))
    except ApiError as error:
        assert error.code == 406


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        manifests,
        manifest_source,
        stored_pod,
        record,
        tar,
        layer,
        log_line,
        selectors,
        reference,
        jsonpath,
        accept,
    )
}
