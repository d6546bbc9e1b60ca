"""podlite's own rungs of the ladder, one module each; see `podlite.bench.plan.SCENARIOS`."""
