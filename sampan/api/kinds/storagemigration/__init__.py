"""Kinds of storagemigration.k8s.io, one file each."""
