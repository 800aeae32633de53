"""Filters and scores, one file each; the ordered tables are in this package."""
