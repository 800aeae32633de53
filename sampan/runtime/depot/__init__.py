"""The cluster's own registry without its HTTP: what was pushed, and how it becomes images.

Blobs are kept as they came, because a registry has to give back the same bytes; the images among
them are unpacked into the node's store when they are pushed. One process uses a depot at a time.
"""
