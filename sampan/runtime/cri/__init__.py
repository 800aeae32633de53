"""The second runtime: containers by a CRI server (v1), Debian's containerd.

A containerd of the cluster's own runs in the node's mount namespace, so that it sees the node's
volumes; the pods' networks stay Sampan's. What CRI cannot express is refused by name.
"""
