"""What pods and pod templates have in common: defaults and validation, a file per part.

Paths are passed as text, and errors are appended to a list the caller owns, so that a good object
costs next to nothing.
"""
