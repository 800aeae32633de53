"""Relations between pods, over all nodes at once (NumPy, loaded when the first pod needs it).

One array element per node, in the order of names. Verdicts equal those of `verdict.choose`.
"""
