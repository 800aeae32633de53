"""What objects count as under a ResourceQuota: evaluators, scopes and the check. Pure.

The server's admission charges with it, the controller recounts with it; both must agree to the
last unit. Facts are those of k8s.io/apiserver/pkg/quota and pkg/quota/v1/evaluator.
"""
