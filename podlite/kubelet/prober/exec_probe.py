"""exec: a command in the container, healthy if it exits with 0.

Source: pkg/probe/exec/exec.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.cri.errors import CRIError, DeadlineExceededError
from podlite.kubelet.gotime import duration
from podlite.kubelet.prober.outcome import Outcome, ProbeError, Verdict

if TYPE_CHECKING:
    from podlite.cri.services import RuntimeService

_MAX_OUTPUT = 10 * 1024


async def probe_exec(runtime: RuntimeService, container_id: str, command: list[str], timeout: float) -> Outcome:
    """Runs a command through the runtime, which kills it after `timeout` seconds: that is a failure.

    Raises ProbeError if it could not be run.
    """
    try:
        result = await runtime.exec_sync(container_id, command, timeout)
    except DeadlineExceededError:
        shown = " ".join(command)
        return Outcome(Verdict.FAILURE, f'command timed out: "{shown}" timed out after {duration(timeout)}')
    except CRIError as error:
        raise ProbeError(error.message) from error
    output = (result.stdout + result.stderr)[:_MAX_OUTPUT].decode("utf-8", "replace")
    return Outcome(Verdict.SUCCESS if result.exit_code == 0 else Verdict.FAILURE, output)
