"""The API server: HTTP in, objects checked, stored and watched.

It must not know what controllers, the scheduler or nodes do with objects.
"""
