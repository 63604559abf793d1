"""What tests of DAGs need: a local Iterable, runs without a scheduler, expected plans, contracts of models."""

from .contracts import assert_fields
from .plans import stable_parts

__all__ = ["assert_fields", "stable_parts"]
