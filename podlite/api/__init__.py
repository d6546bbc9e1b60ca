"""Kubernetes v1 objects: types, and the way from the text of a manifest to pods that can be run. Pure.

- `manifest.load_manifests` does all of it: read, decode, default, validate, and report every problem at once;
  `admission.admit` then gives a pod its identity.
- The types: `pod`, `container`, `security`, `volumes`, `probes`, `env`, `status`, `meta`, `config`, `events`,
  `workloads` and their rarer parts; all are made of `base.Object`, and `registry` knows where each is.
- The steps: `yaml_source` (text to nodes with places), `decode` (nodes to objects), `defaults`, `validation`, `fields`
  (what podlite supports), `templates` (pods of workloads).
- The way back: `encode` (objects to dicts, JSON and YAML in the v1 shape).
- Values: `quantity`, `qos`, `image_name`.
"""
