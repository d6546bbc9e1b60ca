"""Probes of containers: what they ask, when, and what their answers come to. Imported only for pods with probes."""
