"""Devices of dynamic resource allocation on a node (KEP-4381): drivers that register, claims that
are prepared for pods and given back, and what CDI says a container needs of a device.

Nothing here decides who gets which device: that is the scheduler's. It is loaded by the first pod
that has claims, or the first driver.
"""
