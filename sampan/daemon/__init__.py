"""The composition root: which part runs in which process, and in what order they boot.

The only package that may wire components together. It holds no behaviour of their own.
"""
