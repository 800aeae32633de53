"""Pods to nodes: queue, cache, cycle. Verdicts are pure functions of pod and node."""
