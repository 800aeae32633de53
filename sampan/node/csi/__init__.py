"""Volumes of CSI drivers (container-storage-interface/spec): who has registered, and what it is
asked to stage, publish and grow on this node.

What attaches volumes to nodes is the drivers' own (external-attacher); what is asked for is
written by `controllers/attachdetach.py`. Nothing here is loaded before a driver registers or a pod
wants one of its volumes.
"""
