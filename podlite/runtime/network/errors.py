"""The failures of a network beyond those of the seam."""

from __future__ import annotations

from podlite.cri.errors import CRIError


class NetworkTeardownError(CRIError):
    """UNKNOWN: something of a pod's network may be left; its record has to stay, for another attempt."""
