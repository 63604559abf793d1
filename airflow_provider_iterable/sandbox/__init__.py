"""A local Iterable: answers REST calls as Iterable does, and knows nothing of who is calling."""

from .options import Options
from .server import Sandbox

__all__ = ["Options", "Sandbox"]
