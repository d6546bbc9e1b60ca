"""Names that controller, spawner and shim agree on. Nothing else is in here, as the controller needs no more of them.

Standard library only: the shim runs this.
"""

from __future__ import annotations

# In a pod's directory: the shim's socket, and the exits that it has written down.
SOCKET = "shim.sock"
EXITS = "exits"

# In the run directory: where the spawner's private tmpfs lies, and what is in that (see `scratch`).
SCRATCH = "scratch"
SHM_DIRECTORY = "shm"
MASK_DIRECTORY = "mask"
ROOT_DIRECTORY = "root"
# With the names of the hierarchies that are shown: an empty directory for each.
CGROUPS_DIRECTORY = "cgroups"
