"""The churn harness behind `podlite bench`: how fast can this machine make and take back pod sandboxes?

    plan        which cases there are, and in which order: pure
    workload    the seam: create one, tear it down       scenarios/  podlite's own        peers/  other programs
    measure     the closed and the open loop
    run         a whole run: open, warm up, interleaved rounds, steps, close, audit
    settle      when the kernel has really freed the namespaces        cpu, breakdown, audit  what it says
    results     figures, ratios, the JSON's schema       table, files, plot, compare  what a person gets of them

docs/bench.md says how each figure is measured and why that is right.
"""
