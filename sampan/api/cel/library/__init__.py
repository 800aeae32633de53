"""Function libraries beyond CEL's standard (k8s.io/apiserver pkg/cel/library, cel-go ext)."""

from . import authorization, formats, lists, network, optionals, strings, versions

LIBRARIES = (
    optionals.functions,
    strings.functions,
    lists.functions,
    network.functions,
    versions.functions,
    formats.functions,
    authorization.functions,
)
"""What every expression in Kubernetes may call."""
