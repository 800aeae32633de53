"""Measurements: `make bench` runs them. Timings live here, never in a test."""
