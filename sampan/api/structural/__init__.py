"""Structural schemas (KEP-1979, apiextensions.k8s.io/v1): what a custom resource's version says of
its objects. A schema is the plain dict of a CustomResourceDefinition; each module compiles one
aspect of it into closures: pruning, defaults, validation, list types, metadata, rules.

Pure functions, no I/O; nothing here is imported before the first definition is.
"""
