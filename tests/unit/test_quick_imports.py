"""What is found in the quicker way is what Python finds, and what does not fit is left to Python."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import sys
from podlite import quick_imports
quick_imports.PACKAGES |= {"probe"}
quick_imports.install()
"""


def run(program: str, *options: str, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + program],
        capture_output=True,
        text=True,
        env={**plain, "PYTHONPATH": os.getcwd(), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A package with one module, whose code is cached; `show` imports it."""
    package = tmp_path / "probe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text("value = 'old'\n")
    py_compile.compile(str(package / "module.py"), doraise=True)
    return package


def show(directory: Path) -> str:
    return f"""
sys.path.insert(0, {str(directory)!r})
from probe import module
print(module.value, type(module.__loader__).__module__)
"""


def test_what_is_found_is_what_python_finds() -> None:
    program = """
import importlib.machinery
import podlite.cli.run_pods, podlite.api.manifest, podlite.runtime.network.builtin
found = {name: module for name, module in sys.modules.items()
         if type(getattr(module, "__loader__", None)).__module__ == quick_imports.__name__}
for name, module in found.items():
    parent = sys.modules[name.rpartition(".")[0]]
    ours, python = module.__spec__, importlib.machinery.PathFinder.find_spec(name, parent.__path__)
    for each in ("name", "origin", "cached", "has_location", "submodule_search_locations", "parent"):
        assert getattr(ours, each) == getattr(python, each), (name, each)
    assert module.__file__ == python.origin and module.__cached__ == python.cached, name
    assert isinstance(module.__loader__, type(python.loader)), name
    assert module.__loader__.get_code(name) == python.loader.get_code(name), name
    assert module.__loader__.get_source(name) == python.loader.get_source(name), name
tops = sorted({name.partition(".")[0] for name in found})
print(len(found) > 200, {"anyio", "asyncio", "msgspec", "podlite"} <= set(tops), "podlite.runtime" in found)
"""
    assert run(program) == "True True True\n"


def test_a_cache_that_fits_is_used(probe: Path) -> None:
    """The source is unreadable but for its time and size, so that only the cache can have been used."""
    source = probe / "module.py"
    stat = source.stat()
    source.write_text("value = 'new'\n")
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(show(probe.parent)) == "old podlite.quick_imports\n"


def test_a_source_that_has_changed_counts(probe: Path) -> None:
    source = probe / "module.py"
    source.write_text("value = 'newer'\n")
    assert run(show(probe.parent)) == "newer podlite.quick_imports\n"
    # Python's own writes the cache anew.
    source.chmod(0o600)
    assert b"newer" in next((probe / "__pycache__").glob("module.*.pyc")).read_bytes()


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\0" * 100], ids=["empty", "short", "another version's"])
def test_a_cache_that_is_none_is_made_anew(probe: Path, content: bytes) -> None:
    next((probe / "__pycache__").glob("module.*.pyc")).write_bytes(content)
    assert run(show(probe.parent)) == "old podlite.quick_imports\n"


def test_a_cache_by_hash_is_pythons_to_read(probe: Path) -> None:
    """PEP 552: unchecked, it counts whatever the source is."""
    source = probe / "module.py"
    py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    source.write_text("value = 'newer'\n")
    assert run(show(probe.parent)) == "old podlite.quick_imports\n"


def test_a_directory_that_was_moved(probe: Path) -> None:
    """The name of its source is in the code: tracebacks would show no lines."""
    moved = probe.parent / "moved"
    moved.mkdir()
    probe.rename(moved / "probe")
    (moved / "probe/module.py").write_text((moved / "probe/module.py").read_text())
    program = "\nprint(module.__loader__.get_code('probe.module').co_filename == module.__file__)"
    assert run(show(moved) + program) == "old podlite.quick_imports\nTrue\n"


def test_optimised_code_is_left_to_python(probe: Path) -> None:
    assert run(show(probe.parent), "-O") == "old _frozen_importlib_external\n"


def test_code_that_is_cached_elsewhere_is_left_to_python(probe: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert run(show(probe.parent), PYTHONPYCACHEPREFIX=str(elsewhere)) == "old _frozen_importlib_external\n"


def test_no_module_is_no_module(probe: Path) -> None:
    program = f"""
sys.path.insert(0, {str(probe.parent)!r})
try:
    import probe.missing
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(program) == "probe.missing\n"


def test_installed_twice_it_is_there_once() -> None:
    program = "n = len(sys.meta_path); quick_imports.install(); print(len(sys.meta_path) - n)"
    assert run(program) == "0\n"


def test_a_mistake_in_a_module_is_shown_as_ever(probe: Path) -> None:
    """Python leaves its own frames out of such tracebacks, and ours must not come in."""
    (probe / "module.py").write_text("1 / 0\n")
    program = f"""
import traceback
sys.path.insert(0, {str(probe.parent)!r})
try:
    import probe.module
except ZeroDivisionError:
    print("quick_imports" in traceback.format_exc(), "1 / 0" in traceback.format_exc())
"""
    assert run(program) == "False True\n"
