"""Cluster DNS: message (bytes), answer (pure), serve (sockets)."""
