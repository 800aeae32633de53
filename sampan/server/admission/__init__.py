"""What a write must pass before it is stored; CHAIN is the ordered table."""
