"""The shim's interpreter has no site-packages, and each module that it loads is in every pod's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import podlite

ROOT = Path(podlite.__file__).parent.parent
TOO_LARGE = ("typing", "dataclasses", "inspect", "logging", "msgspec", "subprocess", "asyncio", "pathlib", "json", "re")


@pytest.mark.parametrize("module", ["capabilities", "process", "seccomp_load", "userns"])
def test_modules_of_the_shim_need_little(module: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import podlite.linux.{module}; "
        f"print(*sorted(set(sys.modules) & {set(TOO_LARGE)!r}))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
