"""Figures about speed and memory, in one run and beside what they are compared with; no test depends on them."""
