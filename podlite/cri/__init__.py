"""The seam between the kubelet side and a runtime: the messages of CRI v1 and its two services.

Names and fields are those of `runtime.v1` (k8s.io/cri-api); only the request and response envelopes are
left out, for a Python call has arguments and a result. Windows fields are left out too.
"""
