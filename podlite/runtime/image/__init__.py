"""Images: from registries and files into the store, and from the store under containers.

Read in this order: `layout` (how the store lies on disk), `store` (finding, pinning, removing), `writer` and `collect`
(adding, and what may go), `assembly` (an image put together, layer by layer), `load` (archives and layouts: `archive`,
`oci`, `manifest`, `platform`, `plan`), `registry` (pulls), `unpack` (layers: `decompress`, `tar`, `layer_tree`,
`merged`), `rootfs` (what a container's root is made of, and its user), `embedded` and `skeleton` (the image made from
this machine), `service` (CRI).
"""
