"""A little of the soak: random churn, kills and faults against the oracle; an hour of it is for by hand."""

from __future__ import annotations

import os
import time

import pytest

from podlite.runtime.layout import Layout
from tests.faults.conftest import Account
from tests.faults.soak import soak

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

SECONDS = float(os.environ.get("PODLITE_SOAK_SECONDS", "15"))


def test_soak(layout: Layout, short_tmp: str, account: Account) -> None:
    seed = int(os.environ.get("PODLITE_FAULTS_SEED") or time.strftime("%Y%m%d", time.gmtime()))
    os.makedirs(f"{short_tmp}/state")
    os.makedirs(layout.images_dir, exist_ok=True)
    os.symlink(layout.images_dir, f"{short_tmp}/state/images")
    report = soak(short_tmp, SECONDS, seed, cgroup_root=layout.cgroup_root)
    account.other.append(f"soak, seed {seed}: {report}")
