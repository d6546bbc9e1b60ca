"""podlite runs Kubernetes Pods on one Linux machine, with no cluster, daemon or container engine.

As a library: see `podlite.library`, whose names are found here too, and `podlite.testing` for tests.
"""

from podlite.version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podlite.errors import PodliteError as PodliteError
    from podlite.library import Completed as Completed
    from podlite.library import Sandbox as Sandbox
    from podlite.library import open_runtime as open_runtime
    from podlite.library import open_sandbox as open_sandbox
    from podlite.runtime.layout import Layout as Layout

# Found on first use (PEP 562): the spawner imports this package too, and must not load all of it.
_WHERE = {
    "Completed": "podlite.library",
    "Layout": "podlite.runtime.layout",
    "PodliteError": "podlite.errors",
    "Sandbox": "podlite.library",
    "open_runtime": "podlite.library",
    "open_sandbox": "podlite.library",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'podlite' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
