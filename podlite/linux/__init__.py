"""Mechanism without policy: system calls, namespaces, mounts, capabilities, seccomp, cgroups, netlink.

Nothing here imports anything of podlite outside `podlite.linux`, and the modules that the shim uses
(`syscalls`, `mounts`, `paths`, `capabilities`, `process`, `seccomp_load`, `userns`) import only the
standard library, for the shim's interpreter runs with `-I -S`.
"""
