"""podlite runs Kubernetes Pods on one Linux machine, with no cluster, daemon or container engine."""

from podlite.version import __version__ as __version__
