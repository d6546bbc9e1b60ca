"""`podlite image`: from a file into the store, a pod of it, and out again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.cli import Podlite, pod
from tests.support.images import Dir, File, TestImage, docker_archive, oci_layout

pytestmark = [pytest.mark.root]

BUSYBOX = shutil.which("busybox") or "/bin/busybox"


def image(name: str = "registry.example/team/demo:1", **config: object) -> TestImage:
    """An image with one statically linked program, which is a shell and everything else."""
    busybox = File(Path(BUSYBOX).read_bytes(), mode=0o755)
    layers = [
        {
            "bin/": Dir(),
            "bin/busybox": busybox,
            "bin/sh": busybox,
            "etc/": Dir(),
            "etc/passwd": "app:x:7:7::/srv:/bin/sh\n",
        },
        {"srv/": Dir(), "srv/page": "from the image\n"},
    ]
    return TestImage(name, layers, config=config)  # type: ignore[call-arg]


@pytest.fixture
def own_store(podlite: Podlite, short_tmp: str) -> Podlite:
    """With an image store of the test's own."""
    from msgspec import structs

    podlite.layout = structs.replace(podlite.layout, state_dir=f"{short_tmp}/state")
    return podlite


def test_load_run_and_remove(own_store: Podlite, tmp_path: Path) -> None:
    docker_archive(tmp_path / "demo.tar", [image()])
    loaded = own_store("image", "load", str(tmp_path / "demo.tar"))
    assert (loaded.status, loaded.out) == (0, "Loaded registry.example/team/demo:1\n"), loaded
    rows = [line.split() for line in own_store("image", "ls", "--no-headers").out.splitlines()]
    assert ["registry.example/team/demo", "1"] in [row[:2] for row in rows]
    assert ["podlite.local/host", "1"] in [row[:2] for row in rows], "the one that is always there"
    short = next(row[2] for row in rows if row[0].endswith("demo"))
    words = ["--quiet", "--image", "registry.example/team/demo:1", "/bin/busybox", "cat", "/srv/page"]
    done = own_store("run", *words)
    assert (done.status, done.out) == (0, "from the image\n"), done
    assert short in own_store("image", "ls", "-q").out.split()
    described = own_store("image", "inspect", short).json[0]
    assert described["names"] == ["registry.example/team/demo:1"]
    assert described["usedBy"] == []
    assert len(described["layers"]) == 2
    removed = own_store("image", "rm", "registry.example/team/demo:1")
    assert (removed.status, removed.out) == (0, "Removed registry.example/team/demo:1\n")
    missing = own_store("image", "rm", "registry.example/team/demo:1")
    assert (missing.status, missing.err) == (1, 'podlite: image "registry.example/team/demo:1" not found\n')
    assert own_store("image", "rm", "--force", "registry.example/team/demo:1").status == 0


def test_an_oci_layout_and_standard_input(own_store: Podlite, tmp_path: Path) -> None:
    oci_layout(tmp_path / "layout", [image("registry.example/layout:2")])
    assert own_store("image", "load", str(tmp_path / "layout")).out.startswith("Loaded registry.example/layout:2\n")
    docker_archive(tmp_path / "demo.tar", [image("registry.example/stdin:3")])
    loaded = own_store("image", "load", "-", stdin=(tmp_path / "demo.tar").read_bytes())
    assert loaded.out == "Loaded registry.example/stdin:3\n", loaded


def test_a_pod_in_the_way_of_removal(own_store: Podlite, tmp_path: Path) -> None:
    """As with docker, the name goes; the layers stay until nobody uses them."""
    docker_archive(tmp_path / "demo.tar", [image()])
    own_store("image", "load", str(tmp_path / "demo.tar"))
    text = pod("exec busybox sleep 1000").replace("podlite.local/host:1", "registry.example/team/demo:1")
    own_store.run_in_background(text)
    removed = own_store("image", "rm", "registry.example/team/demo:1")
    assert removed.status == 0
    assert "Its layers stay until 1 container that use" in removed.err
    assert own_store("exec", "demo", "busybox", "cat", "/srv/page").out == "from the image\n"


def test_prune(own_store: Podlite, tmp_path: Path) -> None:
    docker_archive(tmp_path / "demo.tar", [image()])
    own_store("image", "load", str(tmp_path / "demo.tar"))
    assert own_store("image", "prune").out == "Nothing to remove.\n", "it has a name"
    assert own_store("image", "prune", "--all", "--dry-run").out.startswith(
        "would remove registry.example/team/demo:1 ("
    )
    pruned = own_store("image", "prune", "--all").out.splitlines()
    assert pruned[0] == "removed registry.example/team/demo:1"
    assert pruned[1].startswith("Freed ")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"not an archive at all", ""), (b"", ""), (b"\x1f\x8b" + b"\x00" * 100, "")],
)
def test_what_is_no_image(own_store: Podlite, tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    done = own_store("image", "load", str(path))
    assert done.status == 1, done
    assert done.err.startswith("podlite: "), done
    assert str(path) in done.err
    assert "Traceback" not in done.err
    assert own_store("image", "load", "/no/such/file").status == 1


def test_the_image_decides_what_runs(own_store: Podlite, tmp_path: Path) -> None:
    """Entrypoint, arguments, user and directory are the image's unless the pod says otherwise."""
    made = image(Entrypoint=["/bin/sh", "-c"], Cmd=["busybox id -u; busybox pwd"], User="app", WorkingDir="/srv")
    docker_archive(tmp_path / "demo.tar", [made])
    own_store("image", "load", str(tmp_path / "demo.tar"))
    done = own_store("run", "--quiet", "--image", "registry.example/team/demo:1")
    assert (done.status, done.out) == (0, "7\n/srv\n"), done
