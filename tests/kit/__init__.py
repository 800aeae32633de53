"""What tests share: the fake clock, the fake kernel, the in-process cluster."""
