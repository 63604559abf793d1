"""A local Iterable: answers REST calls as Iterable does; shares no code with the rest of the provider."""

from .options import Options
from .server import Sandbox

__all__ = ["Options", "Sandbox"]
