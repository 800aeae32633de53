"""Encodings: JSON, YAML, patches, quantities. Pure functions, no I/O."""
