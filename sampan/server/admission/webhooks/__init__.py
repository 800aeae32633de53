"""Admission webhooks: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

Configurations are followed by events, so one counts from the next write on; with none, the two
plugins are not even in the chain. Mutating hooks are called one after the other in the order of
their configurations' names, validating ones at once. They do not take part while the server
itself starts: a hook that is down must not keep the cluster from coming up.
"""

from __future__ import annotations

from .dispatch import MUTATING, VALIDATING
from .source import Hooks

__all__ = ["MUTATING", "VALIDATING", "Hooks"]
