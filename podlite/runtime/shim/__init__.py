"""What runs outside the controller: the spawner, a pod's shim, and a container's first process.

Everything here runs in an interpreter without site-packages (`python -I -S`), so it may import only the
standard library, `podlite.steps` and those modules of `podlite.linux` that say so. `launch` is the one
module for the controller.
"""
