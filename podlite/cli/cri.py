"""podlite cri: podlite as the CRI runtime of a kubelet, of crictl, of critest."""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING

from podlite.cli import options

if TYPE_CHECKING:
    from podlite.runtime.spawner import Launched

SUMMARY = "serve CRI v1 to a kubelet, crictl or critest"
LISTEN = "unix:///run/podlite/cri.sock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `podlite cri`."""
    parser.epilog = (
        "Pods live on when the server ends, and the next one takes them over. "
        "SIGTERM and Ctrl-C end it; what is under way gets five seconds."
    )
    parser.add_argument("--listen", metavar="ADDRESS", default=LISTEN, help=f"the socket ({LISTEN})")
    group = parser.add_argument_group("streams of exec, attach and port-forward")
    group.add_argument("--streaming-address", metavar="IP", default="127.0.0.1", help="where to listen (127.0.0.1)")
    group.add_argument("--streaming-port", metavar="PORT", type=int, default=0, help="the port (any that is free)")
    group.add_argument("--streaming-cert", metavar="FILE", default="", help="a certificate: the streams speak TLS")
    group.add_argument("--streaming-key", metavar="FILE", default="", help="the certificate's key")
    options.add_warm_pool(parser)
    options.add_network(parser)
    options.add_logging(parser)
    options.add_directories(parser)


def main(arguments: argparse.Namespace, launched: Launched | None) -> int:
    """Serves until it is told to end."""
    options.configure_logging(arguments)
    from podlite.rpc.extra import poll_directly, require_grpc

    poll_directly()
    require_grpc("podlite cri")
    import anyio

    try:
        anyio.run(_serve, arguments, launched)
    finally:
        if launched is not None:
            launched[0].close()
    return 0


async def _serve(arguments: argparse.Namespace, launched: Launched | None) -> None:
    import gc

    import anyio

    from podlite.agent.cri_server import ServerOptions, open_cri
    from podlite.cli import terminal

    node = options.node_options(arguments)
    node.warm_pool = arguments.warm_pool
    server = ServerOptions(
        listen=arguments.listen,
        streaming_address=arguments.streaming_address,
        streaming_port=arguments.streaming_port,
        certificate=arguments.streaming_cert,
        key=arguments.streaming_key,
    )
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with open_cri(node, server, launched):
            # What is there now stays; what comes and goes with the calls is collected.
            gc.collect()
            gc.freeze()
            gc.enable()
            terminal.note(f"CRI v1 is served at {arguments.listen}")
            async for _ in received:
                return
