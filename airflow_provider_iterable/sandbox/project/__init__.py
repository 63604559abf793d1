"""What an Iterable project keeps, and what writes do to it; knows no HTTP and words no answer."""
