"""Sampan: a Kubernetes cluster you install with pip.

One package; each folder is one idea. Components meet only over the API: none imports another.
The layers are an import-linter contract in pyproject.toml.
"""
