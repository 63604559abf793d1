"""The whole signature of an operator, for ``help()`` and completion: its own parameters, then those it inherits."""

from __future__ import annotations

import inspect
from typing import Any


class FullSignature:
    """Gives a class the parameters of its constructor and of all that it passes on; worked out when it is asked."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        """Return the signature of the class."""
        parameters: dict[str, inspect.Parameter] = {}
        for cls in owner.__mro__:
            if "__init__" in vars(cls):
                constructor: Any = vars(cls)["__init__"]
                for name, parameter in inspect.signature(constructor).parameters.items():
                    if name != "self" and parameter.kind in (
                        parameter.KEYWORD_ONLY,
                        parameter.POSITIONAL_OR_KEYWORD,
                    ):
                        parameters.setdefault(name, parameter.replace(kind=parameter.KEYWORD_ONLY))
        return inspect.Signature(list(parameters.values()))
