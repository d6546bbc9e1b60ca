"""CNI networks for tests: configurations with Debian's plugins, and small plugins of the tests' own that misbehave."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from podlite.runtime.network.cni.network import CNINetwork

# Another version's can be tried by PODLITE_TEST_CNI_PLUGINS.
_PLACES = (os.environ.get("PODLITE_TEST_CNI_PLUGINS", ""), "/usr/lib/cni", "/opt/cni/bin")
PLUGINS = next((path for path in _PLACES if os.path.exists(f"{path}/bridge")), "")

needs_plugins = pytest.mark.skipif(not PLUGINS, reason="needs the CNI plugins (package containernetworking-plugins)")


def host_local(run_dir: str, *subnets: str, **fields: Any) -> dict[str, Any]:
    """Addresses of these ranges, one of each, and default routes for their families."""
    routes = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    ranges = [[{"subnet": subnet}] for subnet in subnets]
    return {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": f"{run_dir}/leases", **fields}


DUAL = ("10.88.0.0/16", "fd88::/64")
PORTMAP = {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}


def bridge(run_dir: str, *subnets: str, **fields: Any) -> dict[str, Any]:
    ipam = host_local(run_dir, *(subnets or DUAL))
    return {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    } | fields


def ptp(run_dir: str, *subnets: str, **fields: Any) -> dict[str, Any]:
    return {"type": "ptp", "ipMasq": True, "ipam": host_local(run_dir, *(subnets or DUAL))} | fields


def write_network(run_dir: str, *plugins: dict[str, Any], name: str = "testnet", **fields: Any) -> str:
    """A conflist in the run directory's own configuration directory; returns that."""
    directory = f"{run_dir}/net.d"
    os.makedirs(directory, exist_ok=True)
    config = {"cniVersion": "1.0.0", "name": name, "plugins": list(plugins), **fields}
    Path(f"{directory}/{name}.conflist").write_text(json.dumps(config))
    return directory


def make_cni(run_dir: str, *plugins: dict[str, Any], bin_dirs: tuple[str, ...] = (), **options: Any) -> CNINetwork:
    """A network of these plugins; with none, of the configuration that is there already."""
    directory = write_network(run_dir, *plugins) if plugins else f"{run_dir}/net.d"
    return CNINetwork(run_dir, f"{run_dir}/state", conf_dir=directory, bin_dirs=(*bin_dirs, PLUGINS), **options)


def write_plugin(run_dir: str, name: str, script: str) -> str:
    """A plugin of the test's own, a shell script that has the request in $request; returns its directory.

    It answers VERSION and logs every call, as `COMMAND interface` and the request, to <run_dir>/<name>.log.
    """
    directory = f"{run_dir}/bin"
    os.makedirs(directory, exist_ok=True)
    path = f"{directory}/{name}"
    Path(path).write_text(
        f"""#!/bin/sh
request=$(cat)
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{{"cniVersion": "1.1.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}}'
    exit 0
fi
printf '%s %s\\n%s\\n' "$CNI_COMMAND" "$CNI_IFNAME" "$(echo "$request" | tr -d '\\n')" >> {run_dir}/{name}.log
{script}
"""
    )
    os.chmod(path, stat.S_IRWXU)
    return directory


def calls(run_dir: str, name: str) -> list[tuple[str, dict[str, Any]]]:
    """(command, request) of every call of such a plugin but VERSION."""
    try:
        lines = Path(f"{run_dir}/{name}.log").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(lines[place].split()[0], json.loads(lines[place + 1])) for place in range(0, len(lines), 2)]


def kernel_has(script: str) -> bool:
    """Whether a command works in a network namespace of its own."""
    done = subprocess.run(["unshare", "--net", "sh", "-ec", script], capture_output=True, check=False)
    return done.returncode == 0


def lacking(feature: str, script: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        os.geteuid() != 0 or not kernel_has(script), reason=f"this kernel, or this machine, has no {feature}"
    )
