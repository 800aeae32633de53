"""NetworkPolicy: who may talk to the pods of this node. All but `run` is pure."""
