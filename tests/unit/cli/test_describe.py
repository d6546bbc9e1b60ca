"""`podlite describe` against what kubectl prints.

The expected texts are laid out by hand from describePod in k8s.io/kubectl/pkg/describe/describe.go and the rules of
Go's text/tabwriter; "Debug Running Pods" has an example,
https://kubernetes.io/docs/tasks/debug/debug-application/debug-running-pod/.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from podlite.api.events import Event, EventSource
from podlite.api.manifest import load_manifests
from podlite.api.pod import Pod
from podlite.api.references import ObjectReference
from podlite.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    PodCondition,
    PodIP,
)
from podlite.cli.describe_container import describe_probe
from podlite.cli.describe_pod import describe_pod
from podlite.cli.describe_text import Text

NOW = 1_795_464_300 * 10**9  # 2026-11-23T20:05:00Z


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def pod_of(spec: str, **metadata: str) -> Pod:
    lines = "".join(f"  {line}\n" for line in spec.strip("\n").splitlines())
    head = "".join(f"  {key}: {value}\n" for key, value in {"name": "nginx", **metadata}.items())
    [pod] = load_manifests([("f", f"apiVersion: v1\nkind: Pod\nmetadata:\n{head}spec:\n{lines}")]).pods
    return pod


def test_columns_end_where_a_line_has_no_tab() -> None:
    """text/tabwriter: a column block is made of consecutive lines with a tab-terminated cell in that column."""
    text = Text()
    text.line(0, "a", "bbb", "c")
    text.line(1, "aaaa", "b", "c")
    text.line(0, "none")
    text.line(0, "x", "y")
    assert str(text) == "a       bbb  c\n  aaaa  b    c\nnone\nx  y\n"


def test_control_characters_are_shown() -> None:
    text = Text()
    text.line(0, "a", "\x1b[31mred")
    assert str(text) == "a  ^[[31mred\n"


def test_a_pod() -> None:
    pod = pod_of(
        """
nodeName: node-1
containers:
- name: nginx
  image: nginx:1.7
  ports: [{containerPort: 80, name: web, hostPort: 8080}]
  args: ["-g", "daemon off;"]
  resources: {limits: {cpu: 500m, memory: 128Mi}, requests: {cpu: 250m}}
  livenessProbe: {httpGet: {path: /healthz, port: 80}, periodSeconds: 5}
  env:
  - {name: LEVEL, value: debug}
  - {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
  - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  envFrom: [{prefix: P_, configMapRef: {name: settings, optional: true}}]
  volumeMounts: [{name: data, mountPath: /data, readOnly: true, subPath: a/b}]
volumes:
- {name: data, emptyDir: {}}
- {name: host, hostPath: {path: /srv}}
tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 300}]
""",
        labels="{app: nginx, pod-template-hash: abc}",
    )
    status = pod.status
    status.phase, status.host_ip, status.pod_ip = "Running", "192.0.2.1", "10.85.0.2"
    status.pod_ips = [PodIP(ip="10.85.0.2"), PodIP(ip="fd85::2")]
    status.start_time = "2026-11-23T20:00:00Z"
    status.conditions = [PodCondition(type="Initialized", status="True"), PodCondition(type="Ready", status="False")]
    ended = ContainerStateTerminated(
        exit_code=137, reason="OOMKilled", started_at="2026-11-23T20:00:01Z", finished_at="2026-11-23T20:00:02Z"
    )
    status.container_statuses = [
        ContainerStatus(
            name="nginx",
            container_id="podlite://0123",
            image_id="sha256:45",
            ready=True,
            restart_count=2,
            state=ContainerState(running=ContainerStateRunning(started_at="2026-11-23T20:00:03Z")),
            last_state=ContainerState(terminated=ended),
        )
    ]
    about = ObjectReference(kind="Pod", field_path="spec.containers{nginx}")
    events = [
        Event(
            involved_object=about, type="Warning", reason="BackOff", message="Back-off restarting\n", count=3,
            first_timestamp="2026-11-23T20:04:00Z", last_timestamp="2026-11-23T20:04:50Z",
            source=EventSource(component="kubelet"),
        ),
        Event(
            type="Normal", reason="Pulled", message="here", count=1, first_timestamp="2026-11-23T20:00:00Z",
            last_timestamp="2026-11-23T20:00:00Z", source=EventSource(component="kubelet"),
        ),
    ]  # fmt: skip
    assert (
        describe_pod(pod, events, NOW)
        == """\
Name:         nginx
Namespace:    default
Node:         node-1/192.0.2.1
Start Time:   Mon, 23 Nov 2026 20:00:00 +0000
Labels:       app=nginx
              pod-template-hash=abc
Annotations:  <none>
Status:       Running
IP:           10.85.0.2
IPs:
  IP:  10.85.0.2
  IP:  fd85::2
Containers:
  nginx:
    Container ID:  podlite://0123
    Image:         nginx:1.7
    Image ID:      sha256:45
    Port:          80/TCP (web)
    Host Port:     8080/TCP (web)
    Args:
      -g
      daemon off;
    State:          Running
      Started:      Mon, 23 Nov 2026 20:00:03 +0000
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Started:      Mon, 23 Nov 2026 20:00:01 +0000
      Finished:     Mon, 23 Nov 2026 20:00:02 +0000
    Ready:          True
    Restart Count:  2
    Limits:
      cpu:     500m
      memory:  128Mi
    Requests:
      cpu:     250m
      memory:  128Mi
    Liveness:  http-get http://:80/healthz delay=0s timeout=1s period=5s #success=1 #failure=3
    Environment Variables from:
      settings  ConfigMap with prefix 'P_'  Optional: true
    Environment:
      LEVEL:   debug
      ME:      nginx (v1:metadata.name)
      TOKEN:   <set to the key 'token' in secret 'keys'>  Optional: false
      MEMORY:  134217728 (limits.memory)
    Mounts:
      /data from data (ro,path="a/b")
Conditions:
  Type          Status
  Initialized   True\x20
  Ready         False\x20
Volumes:
  data:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:\x20\x20\x20\x20\x20
    SizeLimit:  <unset>
  host:
    Type:          HostPath (bare host directory volume)
    Path:          /srv
    HostPathType:\x20\x20
QoS Class:         Burstable
Node-Selectors:    <none>
Tolerations:       node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
Events:
  Type     Reason   Age                From     Message
  ----     ------   ----               ----     -------
  Normal   Pulled   5m                 kubelet  here
  Warning  BackOff  10s (x3 over 60s)  kubelet  spec.containers{nginx}: Back-off restarting
"""
    )


def test_a_pod_that_is_being_ended_and_one_that_waits() -> None:
    pod = pod_of("containers: [{name: c, image: x}]\nreadinessGates: [{conditionType: example.com/ready}]")
    pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds = "2026-11-23T20:04:30Z", 30
    waiting = ContainerState(waiting=ContainerStateWaiting(reason="ImagePullBackOff"))
    pod.status.container_statuses = [ContainerStatus(name="c", state=waiting)]
    lines = describe_pod(pod, [], NOW).splitlines()
    assert "Status:                    Terminating (lasts 30s)" in lines
    assert "Termination Grace Period:  30s" in lines
    assert "Node:                      <none>" in lines
    at = lines.index("    State:          Waiting")
    assert lines[at : at + 4] == [
        "    State:          Waiting",
        "      Reason:       ImagePullBackOff",
        "    Ready:          False",
        "    Restart Count:  0",
    ]
    at = lines.index("Readiness Gates:")
    assert lines[at : at + 3] == ["Readiness Gates:", "  Type                Status", "  example.com/ready   <none> "]
    # No line without a tab stands between them, so these are one block, as wide as its longest cell.
    assert lines[-1] == "Events:               <none>"


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        ("{exec: {command: [cat, /tmp/healthy]}, initialDelaySeconds: 5}",
         "exec [cat /tmp/healthy] delay=5s timeout=1s period=10s #success=1 #failure=3"),
        ("{tcpSocket: {port: db}}", "tcp-socket :db delay=0s timeout=1s period=10s #success=1 #failure=3"),
        ("{grpc: {port: 9000}}", "grpc <pod>:9000  delay=0s timeout=1s period=10s #success=1 #failure=3"),
        ("{httpGet: {port: 443, scheme: HTTPS, host: '::1', path: x}}",
         "http-get https://[::1]:443/x delay=0s timeout=1s period=10s #success=1 #failure=3"),
    ],
)  # fmt: skip
def test_probes(probe: str, text: str) -> None:
    spec = f"containers: [{{name: c, image: x, ports: [{{containerPort: 1, name: db}}], livenessProbe: {probe}}}]"
    found = pod_of(spec).spec.containers[0].liveness_probe
    assert found is not None
    assert describe_probe(found) == text
