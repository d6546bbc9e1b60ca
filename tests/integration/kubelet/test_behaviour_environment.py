"""Environment variables, commands and where they come from.

Sources: "Define Dependent Environment Variables", "Expose Pod Information to Containers Through Environment
Variables", "Configure a Pod to Use a ConfigMap" and "Distribute Credentials Securely Using Secrets" of
https://kubernetes.io/docs/tasks/inject-data-application/, and makeEnvironmentVariables in
pkg/kubelet/kubelet_pods.go for texts.
"""

from __future__ import annotations

import pytest

from podlite.kubelet.kubelet import Kubelet
from tests.support.behaviours import Behaviour, check

pytestmark = [pytest.mark.root, pytest.mark.anyio]

OBJECTS = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: "10", not-a-name: odd}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {colour: red, token: "s3cret"}
"""

TABLE = [
    Behaviour(
        "fieldRef-all-paths",
        "https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#available-fields",
        """
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: prod
  uid: 3f2f7b4c-0f10-4a6b-9d2f-6c2b7e1a9c10
  labels: {app: shop, tier: front}
  annotations: {note: "two\\nlines"}
spec:
  restartPolicy: Never
  serviceAccountName: runner
  containers:
  - name: c
    image: podlite.local/host:1
    command: [sh, -c, 'echo "$NAME/$NS/$NODE/$SA/$LABEL/$NOTE/$MISSING."; echo "$UID_";
             test "$HOSTIP" = 127.0.0.1 && test "$HOSTIPS" = 127.0.0.1 && echo hosts; echo "[$PODIP][$PODIPS]"']
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: UID_, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
    - {name: MISSING, valueFrom: {fieldRef: {fieldPath: "metadata.labels['none']"}}}
    - {name: HOSTIP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: HOSTIPS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
    - {name: PODIP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: PODIPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
""",
        status={"phase": "Succeeded"},
        logs={"c": "web/prod/node-1/runner/shop/two\nlines/.\n" + ".{36}\nhosts\n.*\n"},
    ),
    Behaviour(
        "resourceFieldRef-divisors",
        "pkg/api/v1/resource/helpers.go: values are rounded up to whole units of the divisor",
        """
restartPolicy: Never
containers:
- {c: c, command: [sh, -c, 'echo $A $B $C $D $E $F'],
   resources: {requests: {cpu: 250m, memory: 10Mi}, limits: {cpu: 1500m, memory: 64Mi}},
   env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
         {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}},
         {name: C, valueFrom: {resourceFieldRef: {resource: requests.cpu}}},
         {name: D, valueFrom: {resourceFieldRef: {resource: limits.memory}}},
         {name: E, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}},
         {name: F, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}}]}
""",
        status={"phase": "Succeeded"},
        logs={"c": "2 1500 1 67108864 10 1\n"},
    ),
    Behaviour(
        "resourceFieldRef-without-a-limit",
        "https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#downwardapi-resourceFieldRef: the node's "
        "allocatable",
        """
restartPolicy: Never
containers:
- {c: c, command: [sh, -c, 'test $A -eq $(nproc --all) && test $B -gt 0 && echo $C'],
   env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
         {name: B, valueFrom: {resourceFieldRef: {resource: limits.memory}}},
         {name: C, valueFrom: {resourceFieldRef: {resource: requests.memory}}}]}
""",
        status={"phase": "Succeeded"},
        logs={"c": "0\n"},
    ),
    Behaviour(
        "keys-of-objects",
        "https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/",
        """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: podlite.local/host:1
    command: [sh, -c, 'echo $A $B ${C-unset} ${D-unset} ${E-unset}']
    env:
    - {name: A, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: B, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: C, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}
    - {name: D, valueFrom: {configMapKeyRef: {name: nowhere, key: none, optional: true}}}
    - {name: E, valueFrom: {secretKeyRef: {name: nowhere, key: none, optional: true}}}
"""
        + OBJECTS,
        status={"phase": "Succeeded"},
        logs={"c": "blue s3cret unset unset unset\n"},
    ),
    Behaviour(
        "envFrom-in-order-with-prefix",
        "https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables: when a "
        "key exists in multiple sources the last one wins, and env takes precedence",
        """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: podlite.local/host:1
    command: [sh, -c, 'echo $colour $size $P_colour $P_token; tr "\\0" "\\n" < /proc/1/environ | grep not-a-name']
    envFrom:
    - configMapRef: {name: settings}
    - secretRef: {name: keys}
    - {prefix: P_, secretRef: {name: keys}}
    - configMapRef: {name: nowhere, optional: true}
    env:
    - {name: size, value: "11"}
"""
        + OBJECTS,
        status={"phase": "Succeeded"},
        logs={"c": "red 11 red s3cret\nnot-a-name=odd\n"},
    ),
    Behaviour(
        "dependent-variables",
        "https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/",
        """
restartPolicy: Never
containers:
- {c: c, command: [sh, -c, 'echo "$A|$B|$C|$D"; echo $0', "$(B) $$(B) $(NONE)"],
   env: [{name: A, value: $(B)}, {name: B, value: b}, {name: C, value: $(B)$(A)}, {name: D, value: $$(B)}]}
""",
        status={"phase": "Succeeded"},
        logs={"c": r"\$\(B\)\|b\|b\$\(B\)\|\$\(B\)" + "\n" + r"b \$\(B\) \$\(NONE\)" + "\n"},
    ),
    Behaviour(
        "a-Secret-that-is-no-text",
        "CRI's api.proto: the value of a KeyValue is bytes; environ(7): any but NUL",
        """
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {raw: w7z/}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - {c: c, envFrom: [{secretRef: {name: s}}], env: [{name: B, value: "<$(raw)>"}, {name: C, value: ü}],
     command: [sh, -c, 'printf "$raw$B$C" | od -An -tx1']}
""",
        logs={"c": " c3 bc ff 3c c3 bc ff 3e c3 bc\n"},
    ),
    Behaviour(
        "a-Secret-with-a-NUL-byte",
        "execve(2) knows no such variables: the container cannot be made",
        """
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {raw: YQBi}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers: [{c: c, envFrom: [{secretRef: {name: s}}], command: ["true"]}]
""",
        until={
            "containerStatuses[c].state.waiting.reason": "CreateContainerError",
        },
        events=("Warning Failed Error: the environment variable raw of container c contains a NUL byte.*",),
    ),
    Behaviour(
        "a-command-that-is-no-text",
        "CRI's api.proto: command and args are strings, which are UTF-8 in protobuf",
        """
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {raw: /w==}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers: [{c: c, envFrom: [{secretRef: {name: s}}], command: [echo, "$(raw)"]}, {c: d, command: ["true"]}]
""",
        until={
            "containerStatuses[c].state.waiting.reason": "CreateContainerError",
            "containerStatuses[d].state.terminated.exitCode": 0,
        },
        events=("Warning Failed Error: .* is not UTF-8.*",),
    ),
    Behaviour(
        "a-ConfigMap-that-is-not-there",
        "pkg/kubelet/kuberuntime: CreateContainerConfigError",
        """
containers:
- {c: c, command: ["true"], env: [{name: A, valueFrom: {configMapKeyRef: {name: nowhere, key: k}}}]}
""",
        until={"containerStatuses[c].state.waiting.reason": "CreateContainerConfigError"},
        status={"phase": "Pending", "containerStatuses[c].state.waiting.message": 'configmap "nowhere" not found'},
        events=('Warning Failed Error: configmap "nowhere" not found',),
    ),
    Behaviour(
        "a-key-that-is-not-there",
        "pkg/kubelet/kubelet_pods.go: couldn't find key",
        """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: c, image: "podlite.local/host:1", env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: none}}}]}
"""
        + OBJECTS,
        until={"containerStatuses[c].state.waiting.reason": "CreateContainerConfigError"},
        status={"containerStatuses[c].state.waiting.message": "couldn't find key none in Secret default/keys"},
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_environment(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)
