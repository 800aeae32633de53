"""The cluster's own registry over HTTP: the OCI distribution specification, version 1.1.

What is pushed is in the node's image store when the push has ended (`sampan.runtime.depot`).
"""
