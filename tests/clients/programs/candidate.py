"""Wants to lead: `candidate.py KUBECONFIG NAMESPACE NAME`, with the `kubernetes` client."""

from __future__ import annotations

import sys
import threading

from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

kubeconfig, namespace, name = sys.argv[1:]
config.load_kube_config(kubeconfig)
leaderelection.LeaderElection(
    electionconfig.Config(
        ConfigMapLock("lock", namespace, name),
        lease_duration=3,
        renew_deadline=2,
        retry_period=1,
        onstarted_leading=threading.Event().wait,
        onstopped_leading=None,
    )
).run()
