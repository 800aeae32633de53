"""Nodes that run nothing but behave: they register, keep their Leases, and give the pods bound to
them the statuses that kubelet would, as a script says.

What happens next to a pod is decided by the agent's own `machine` and told by its own `status`;
only the containers are made up (`outcome`). One informer and one timer serve all nodes, so one
process carries thousands. Nothing here starts a process or touches the kernel.
"""
