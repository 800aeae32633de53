"""Function libraries beyond CEL's standard (k8s.io/apiserver pkg/cel/library, cel-go ext)."""

from . import optionals

LIBRARIES = (optionals.functions,)
"""What every expression in Kubernetes may call."""
