"""The node agent: pods from the API into containers on this machine.

Knows pods; containers and images are `runtime`'s, kernel calls are `linux`'s.
"""
