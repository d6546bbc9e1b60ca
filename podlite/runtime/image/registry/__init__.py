"""Pulling images from registries, by the OCI distribution specification.

Read in this order: `pull` (the whole of it), `hosts` (where a registry is reached: hosts.toml), `client` (requests:
mirrors, retries, redirects; with `retry`, `transport` and `failure`), `auth` (tokens), `resolve` (from a name to one
image for one platform), `download` (blobs into the store), `progress` (what whoever waits is told).

Nothing here is imported before something is really pulled: httpx alone takes longer than starting a pod.
"""
