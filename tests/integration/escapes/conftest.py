from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.escapes import Canary


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    """Something of the host's to get at; see Canary.assert_untouched."""
    return Canary(str(tmp_path / "canary"))
