"""Work that leaves a thread in another namespace, and so has one of its own, that ends with it.

No thread that lives on has ever been elsewhere; the pods' own namespaces are the business of
podlite.runtime.namespace_threads, whose threads return. Standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def run_in_own_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, once its thread has ended. Blocking."""
    results: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="podlite-once", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return results[0]
