"""The check of the annotations, compiled once.

A function within a function is a new one at each call of the outer, and jaxtyping gives each of them to beartype again. Of
what it gives only the signature counts, for the body is empty: those of the same signature share one check.
"""

from functools import cache

from beartype import BeartypeConf, beartype

# An int where a float is annotated is fine, as in every type checker (PEP 484).
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


class _Signature:
    """A function, equal to those of the same name, code, annotations and number of defaults."""

    def __init__(self, function):
        self.function = function
        names = function.__module__, function.__qualname__
        optional = len(function.__defaults__ or ()), frozenset(function.__kwdefaults__ or ())
        self._key = *names, function.__code__, optional, tuple(function.__annotations__.items())

    def __eq__(self, other):
        return self._key == other._key

    def __hash__(self):
        return hash(self._key)


@cache
def _checked(signature):
    return _check(signature.function)


def typechecked(function):
    return _checked(_Signature(function))
