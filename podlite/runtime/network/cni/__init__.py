"""The Container Network Interface: the ecosystem's plugins behind podlite's one small interface for networks.

    config      network configurations: what is in --cni-conf-dir, in which order, and what is wrong with it
    negotiate   which version of the protocol a configuration and its plugins have in common
    request     what a plugin is given: the request configuration, its environment, the capability arguments
    invoke      running a plugin: a time limit, its result, its error, everything it said
    cache       the attachments that exist or might, and their results, on disk
    attachment  ADD, CHECK and DEL of one network on one pod; GC and STATUS of a network
    selection   several networks on one pod: what its annotations ask for, and the one that says what it has got
    network     PodNetwork, made of all this

Source: the CNI specification 1.1.0 (SPEC.md and CONVENTIONS.md in github.com/containernetworking/cni).
"""
