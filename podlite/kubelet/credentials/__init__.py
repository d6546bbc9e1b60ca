"""Which credentials an image is pulled with: the pod's `imagePullSecrets`, then those of this machine's user.

`keyring` decides which fit an image, `docker_config` reads the formats, `helpers` asks credential helpers, and `lookup`
puts them together. Imported when something is really pulled.
"""
