"""Validation of probes and of lifecycle hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.meta import nonnegative

if TYPE_CHECKING:
    from podlite.api.container import Container
    from podlite.api.pod import PodOS
    from podlite.api.probes import HTTPGetAction, Lifecycle, LifecycleHandler, Probe
    from podlite.api.validation.report import Report

_REALTIME = (
    "SIGRTMIN",
    *[f"SIGRTMIN+{number}" for number in range(1, 16)],
    *[f"SIGRTMAX-{number}" for number in range(1, 15)],
    "SIGRTMAX",
)
# fmt: off
STOP_SIGNALS = frozenset((
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL",
    "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT",
    "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU",
    "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
    *_REALTIME,
))
# fmt: on


def validate_handlers(
    container: Container, grace_period: int | None, os: PodOS | None, path: str, report: Report
) -> None:
    """The hooks and probes of an app container or a sidecar."""
    if container.lifecycle is not None:
        _lifecycle(container.lifecycle, grace_period, os, f"{path}.lifecycle", report)
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is not None:
            _probe(probe, name, grace_period, f"{path}.{name}", report)


def _probe(probe: Probe, name: str, grace_period: int | None, path: str, report: Report) -> None:
    _handler(probe, grace_period, path, report)
    nonnegative(probe.initial_delay_seconds, f"{path}.initialDelaySeconds", report)
    nonnegative(probe.timeout_seconds, f"{path}.timeoutSeconds", report)
    nonnegative(probe.period_seconds, f"{path}.periodSeconds", report)
    nonnegative(probe.success_threshold, f"{path}.successThreshold", report)
    nonnegative(probe.failure_threshold, f"{path}.failureThreshold", report)
    own_grace = probe.termination_grace_period_seconds
    if own_grace is not None and own_grace <= 0:
        report.invalid(f"{path}.terminationGracePeriodSeconds", own_grace, "must be greater than 0")
    if name == "readinessProbe":
        if own_grace is not None:
            report.invalid(f"{path}.terminationGracePeriodSeconds", own_grace, "must not be set for readinessProbes")
    elif probe.success_threshold != 1:
        report.invalid(f"{path}.successThreshold", probe.success_threshold, "must be 1")


def _lifecycle(lifecycle: Lifecycle, grace_period: int | None, os: PodOS | None, path: str, report: Report) -> None:
    if lifecycle.post_start is not None:
        _handler(lifecycle.post_start, grace_period, f"{path}.postStart", report)
    if lifecycle.pre_stop is not None:
        _handler(lifecycle.pre_stop, grace_period, f"{path}.preStop", report)
    signal = lifecycle.stop_signal
    if signal is None:
        return
    if os is None:
        report.forbidden(f"{path}.stopSignal", "may not be set for containers with empty `spec.os.name`")
        return
    supported = {"windows": ("SIGKILL", "SIGTERM"), "linux": STOP_SIGNALS}.get(os.name)
    if supported is not None and signal not in supported:
        report.not_supported(f"{path}.stopSignal", signal, sorted(supported))


def _handler(handler: Probe | LifecycleHandler, grace_period: int | None, path: str, report: Report) -> None:
    """Exactly one action, and that one is right; the first counts."""
    found = False
    for name in ("exec", "httpGet", "tcpSocket", "grpc", "sleep"):
        action = getattr(handler, _ATTRIBUTES[name], None)
        if action is None:
            continue
        if found:
            report.forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
            continue
        found = True
        place = f"{path}.{name}"
        if name == "exec":
            if not action.command:
                report.required(f"{place}.command")
        elif name == "httpGet":
            _http_get(action, place, report)
        elif name == "sleep":
            if grace_period is not None and not 0 <= action.seconds <= grace_period:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
                report.invalid(place, action.seconds, detail)
        else:
            report.invalids(f"{place}.port", action.port, names.port(action.port))
    if not found:
        report.required(path, "must specify a handler type")


_ATTRIBUTES = {"exec": "exec", "httpGet": "http_get", "tcpSocket": "tcp_socket", "grpc": "grpc", "sleep": "sleep"}


def _http_get(action: HTTPGetAction, path: str, report: Report) -> None:
    if not action.path:
        report.required(f"{path}.path")
    report.invalids(f"{path}.port", action.port, names.port(action.port))
    if action.scheme not in ("HTTP", "HTTPS"):
        report.not_supported(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for header in action.http_headers:
        report.invalids(f"{path}.httpHeaders", header.name, names.http_header(header.name))
