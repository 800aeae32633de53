"""Admission policies: ValidatingAdmissionPolicy and MutatingAdmissionPolicy.

Policies and bindings are followed by events, so one counts from the next write on; without a
policy that is bound, the two plugins are not in the chain, and CEL is not imported.
"""

from .mutating import MUTATING
from .source import Policies
from .validating import VALIDATING

__all__ = ["MUTATING", "VALIDATING", "Policies"]
