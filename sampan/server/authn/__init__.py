"""Who is asking: client certificates, static tokens, service-account tokens."""
