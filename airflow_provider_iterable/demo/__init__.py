"""The README's first command: a warehouse, a local Iterable and the example DAG, on this machine and in one process."""
