"""What an Iterable project holds, and what writes do to it; no HTTP."""
