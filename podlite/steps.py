"""The one registry of named steps.

A step is a piece of work that the log, `--trace`, the breakdown of `podlite bench` and fault injection
all call by the same name. Code marks it with

    with step("netns.create", sandbox_id=sandbox_id):
        ...

which costs about a microsecond while nobody listens. A listener (see `listen`) is called at the end of
every step; a fault (see `inject`) acts at its beginning. A step that is not in `STEPS` cannot be entered,
so the registry is complete by construction, and whoever enumerates it covers steps that are added later.

Standard library only: spawner and shim run this too. Times are CLOCK_MONOTONIC nanoseconds, which all
processes of a machine share, so the spans that a shim reports fit between those of its controller.
"""

from __future__ import annotations

import os
import signal
import time

# Not typing.TYPE_CHECKING: importing typing costs the spawner more than all of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    Listener = Callable[["Span"], None]

# name → what happens in it. The part before the dot is the layer or object; the order is that of a
# pod's life. Where a step runs (controller, spawner, shim, container) is what its span says.
STEPS: Mapping[str, str] = {
    # controller: the manifest and the kubelet side
    "manifest.load": "read, decode, default and validate the manifests",
    "runtime.open": "open the runtime: directories, spawner, image store",
    "reap.orphans": "tear down what a killed podlite left behind",
    "pod.admit": "check the pod against this machine; make its directories",
    "pod.cgroup": "create the pod's cgroup and set its limits",
    "pod.volumes": "set up the pod's volumes",
    "image.ensure": "find or pull the container's image",
    "image.resolve": "ask the registry what the image's name stands for",
    "image.download": "fetch one layer from the registry",
    "image.unpack": "unpack one layer into the store",
    "image.commit": "make the image visible in the store",
    # controller: RunPodSandbox
    "sandbox.run": "RunPodSandbox, whole",
    "sandbox.claim": "take a ready sandbox from the warm pool for a pod",
    "sandbox.spare": "make a ready sandbox for the warm pool",
    "sandbox.record": "write the sandbox's record, and take its lock, before anything is made",
    "sandbox.files": "write resolv.conf, hostname and hosts",
    "netns.create": "unshare, pin by bind mount, restore",
    "network.address": "reserve the pod's addresses",
    "network.firewall": "make sure that the nftables table and the forwarding sysctls are there",
    "network.setup": "veth pair, addresses, routes, neighbours (setupPodNetwork)",
    "network.plugin": "run one CNI plugin for one operation",
    "network.hostports": "publish the pod's host ports",
    "sandbox.confirm": "record that everything the record names exists",
    # spawner and shim
    "spawner.start": "exec the spawner and wait until it answers",
    "shim.fork": "fork the pod's shim from the spawner",
    "shim.setup": "create the pod's ipc and uts namespaces, hostname, shared /dev/shm, socket",
    "shim.pause": "start pid 1 of a shared pid namespace",
    # controller and shim: containers
    "container.create": "CreateContainer: record, writable layer, configuration",
    "container.cgroup": "create the container's cgroups and set its limits",
    "container.mounts": "open the container's mounts as detached mount fds",
    "container.start": "StartContainer: from the request to the container's exec",
    "container.fork": "shim: fork the container's first process into its namespaces",
    "container.rootfs": "container: attach the mounts, pivot_root",
    "container.confine": "container: mask paths, user, capabilities, seccomp",
    "container.exec": "container: execve",
    "container.run": "from exec to exit",
    "container.exit": "shim: reap, drain the output, record the exit",
    "exec.start": "start another process in a running container",
    # teardown
    "container.stop": "StopContainer: signal, grace period, kill",
    "container.remove": "RemoveContainer: cgroups, writable layer, record",
    "sandbox.stop": "StopPodSandbox, whole",
    "network.teardown": "take back host ports and addresses",
    "netns.remove": "unmount and unlink the pin",
    "shim.stop": "end the shim",
    "sandbox.remove": "RemovePodSandbox: directories, and the record last",
    "pod.cleanup": "volumes, the pod's cgroup, logs",
    "runtime.close": "end the spawner and the namespace threads",
}


class Span:
    """One finished step. `start_ns` and `end_ns` are CLOCK_MONOTONIC; `error` is empty for success."""

    __slots__ = ("end_ns", "error", "ids", "name", "start_ns", "where")

    def __init__(
        self, name: str, start_ns: int, end_ns: int, ids: Mapping[str, str], where: str, error: str = ""
    ) -> None:
        self.name = name
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.ids = ids
        self.where = where
        self.error = error


_listeners: tuple[Listener, ...] = ()
_faults: dict[str, list[_Term]] = {}
# Sandbox id → pod, of sandboxes that are there; as long as somebody listens.
_pods: dict[str, str] = {}
_MAX_PODS = 10_000
# Which process this is, for the spans it makes: "controller", "spawner", "shim" or "container".
where = "controller"


def listen(listener: Listener) -> Callable[[], None]:
    """Calls `listener` at the end of every step, in the thread that ran it. Returns the call that ends this."""
    global _listeners
    _listeners = (*_listeners, listener)

    def stop() -> None:
        global _listeners
        _listeners = tuple(each for each in _listeners if each is not listener)

    return stop


def forget_listeners() -> None:
    """For a forked child: whoever listened in the parent does not listen here."""
    global _listeners
    _listeners = ()


def listening() -> bool:
    """Whether anybody listens: a shim is asked to report its spans only then."""
    return bool(_listeners)


def report(span: Span) -> None:
    """Hands a span that was measured elsewhere (in a shim) to the listeners here."""
    _name_pod(span)
    for listener in _listeners:
        listener(span)


def _name_pod(span: Span) -> None:
    """A network knows sandboxes, not pods: whose each sandbox is, other steps have told."""
    sandbox = span.ids.get("sandbox_id", "")
    if not sandbox:
        return
    if "pod" not in span.ids:
        if sandbox in _pods:
            span.ids = {**span.ids, "pod": _pods[sandbox]}
        return
    if len(_pods) >= _MAX_PODS:
        _pods.clear()
    _pods[sandbox] = span.ids["pod"]
    if span.name == "sandbox.remove":
        del _pods[sandbox]


class step:  # noqa: N801 - reads as a statement: `with step("netns.create")`
    """Marks a named step; `ids` are `pod`, `sandbox_id`, `container_id` as far as they are known."""

    __slots__ = ("ids", "name", "start_ns")

    def __init__(self, name: str, **ids: str) -> None:
        if name not in STEPS:
            raise LookupError(f"{name!r} is not a registered step; add it to podlite.steps.STEPS")
        self.name = name
        self.ids = ids

    def __enter__(self) -> step:
        self.start_ns = time.monotonic_ns()
        if _faults:
            _fire(self.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _listeners:
            said = "" if kind is None else f"{kind.__name__}: {error}"
            report(Span(self.name, self.start_ns, time.monotonic_ns(), self.ids, where, said))


def elapsed(name: str, start_ns: int, end_ns: int, **ids: str) -> None:
    """Reports a step whose beginning and end lie in different places, such as `container.run`."""
    if name not in STEPS:
        raise LookupError(f"{name!r} is not a registered step; add it to podlite.steps.STEPS")
    if _listeners:
        report(Span(name, start_ns, end_ns, ids, where))


# --- fault injection ------------------------------------------------------------------------


class _Term:
    """One term of a fault: `times` is how often it acts before the next term's turn; None is for ever."""

    __slots__ = ("action", "argument", "times")

    def __init__(self, action: str, argument: str, times: int | None) -> None:
        self.action = action
        self.argument = argument
        self.times = times


FAULTS_VARIABLE = "PODLITE_FAULTS"
# A file to which each fault is appended as it acts, `step action process`, so that a test knows that it has.
LOG_VARIABLE = "PODLITE_FAULTS_LOG"
_log_fd = -1


def inject(name: str, fault: str) -> None:
    """Arms a fault at the beginning of step `name`, in this process.

    `fault` is a chain of terms, `[N*]ACTION[(ARGUMENT)]`, joined by `->`; each acts N times (for ever
    without N) before the next one's turn, and after the last nothing happens. Actions: `off`;
    `error(ENOSPC)`, an OSError with that errno; `delay(SECONDS)`; `kill`, SIGKILL to this process;
    `stop`, SIGSTOP to it. `2*off->1*error(EMFILE)` lets the step work twice and fail once.

    Raises LookupError for an unknown step and ValueError for a fault that cannot be read.
    """
    if name not in STEPS:
        raise LookupError(f"{name!r} is not a registered step")
    _faults[name] = [_read_term(term) for term in fault.split("->")]


def clear_faults() -> None:
    """Disarms every fault of this process."""
    _faults.clear()


def inject_from_environment(environment: Mapping[str, str]) -> None:
    """Arms what PODLITE_FAULTS says: `step=fault`, several of them separated by semicolons."""
    global _log_fd
    if LOG_VARIABLE in environment and _log_fd < 0:
        # Opened now: where the step is, in a container perhaps, the path means something else.
        _log_fd = os.open(environment[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for item in environment.get(FAULTS_VARIABLE, "").split(";"):
        if item.strip():
            name, _, fault = item.partition("=")
            inject(name.strip(), fault.strip())


def log_descriptor() -> int:
    """The descriptor of the faults' log, -1 where no faults are logged: whoever closes all others leaves it open."""
    return _log_fd


def _read_term(text: str) -> _Term:
    import errno

    count, star, rest = text.strip().partition("*")
    times = int(count) if star else None
    action, paren, argument = (rest if star else text.strip()).partition("(")
    argument = argument.removesuffix(")") if paren else ""
    if action == "error" and not hasattr(errno, argument):
        raise ValueError(f"{text!r}: error needs the name of an errno, such as error(ENOSPC)")
    if action == "delay":
        float(argument)
    if action not in ("off", "error", "delay", "kill", "stop"):
        raise ValueError(f"{text!r}: the action must be one of off, error, delay, kill, stop")
    return _Term(action, argument, times)


def _fire(name: str) -> None:
    terms = _faults.get(name)
    while terms:
        term = terms[0]
        if term.times is not None:
            if term.times == 0:
                terms.pop(0)
                continue
            term.times -= 1
        break
    if not terms:
        return
    term = terms[0]
    if _log_fd >= 0 and term.action != "off":
        try:
            os.write(_log_fd, f"{name} {term.action} {where}\n".encode())
        except OSError:
            pass  # closed before this process was given to a container
    if term.action == "error":
        import errno

        code = getattr(errno, term.argument)
        raise OSError(code, f"injected fault: {os.strerror(code)}", name)
    if term.action == "delay":
        time.sleep(float(term.argument))
    elif term.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif term.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
