"""The agent's API: Kubernetes-shaped, over HTTP on a Unix socket."""
