"""Validation of objects as the API server validates them on creation, with its paths and its words.

Each check takes the object (or a part of it and its path) and a `Report`, to which it adds what is wrong.
The objects have been defaulted before. `podlite.api.validation.pod.validate_pod` is the entry for pods,
`config` for ConfigMaps and Secrets, `workloads` for the objects that carry pod templates.

Feature gates have their defaults of Kubernetes 1.36. Paths and texts that look like slips (a path without
its index, `downwarAPI`) are the API server's own, and kept: clients see them.

Source: pkg/apis/core/validation/validation.go, Kubernetes 1.36.
"""
