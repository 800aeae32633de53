"""Reliability and security proofs at the size CI can afford, each with its negative control."""
