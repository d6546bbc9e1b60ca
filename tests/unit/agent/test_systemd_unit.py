"""The unit in contrib/ is one that systemd takes, and keeps what a restart needs (systemd.kill(5), systemd.exec(5))."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[3] / "contrib/systemd/podlite.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "podlite.service"
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/podlite", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_restart_leaves_the_pods_alone() -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    service = parser["Service"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "process"  # not control-group: the shims are children of the unit
    assert service["Delegate"] == "yes"
    assert service["RuntimeDirectoryPreserve"] == "yes"  # or the pods' records would go with the agent
    assert service["WatchdogSec"]
    assert service["ExecReload"].endswith("-HUP $MAINPID")
