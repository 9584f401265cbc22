"""Finds everything that is reachable from an object, and so by a server's code, however well it is hidden."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None), np.ndarray, np.generic)
_NOT_ENTERED = (type, types.ModuleType)
_NOT_A_BACKENDS_CODE = sys.stdlib_module_names | {"builtins", "numpy", "msgspec"}


class Reached(NamedTuple):
    """An object, and a name under which it was found (of an attribute, a variable or a key), or ""."""

    name: str
    thing: object


def reachable(root: object) -> Iterator[Reached]:
    """Everything that can be reached from ``root``, itself included, once under each of its names.

    References are followed through attributes, slots, containers, closures, defaults and bound methods; through the
    class attributes of a backend's classes; and through the global variables that their methods name. Modules and
    classes themselves are not entered.
    """
    named: set[tuple[str, int]] = set()
    entered: dict[int, object] = {}  # keeps the objects alive, since the id of a deleted object may be reused
    waiting = [Reached("", root)]
    while waiting:
        reached = waiting.pop()
        known = (reached.name, id(reached.thing))
        if known in named or isinstance(reached.thing, _NOT_ENTERED):
            continue
        named.add(known)
        yield reached
        if not isinstance(reached.thing, _LEAVES) and id(reached.thing) not in entered:
            entered[id(reached.thing)] = reached.thing
            waiting.extend(_references(reached.thing))


def _references(thing: object) -> Iterator[Reached]:
    if isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
        return
    if isinstance(thing, dict):
        yield from (Reached(key if isinstance(key, str) else "", value) for key, value in thing.items())
    yield from (Reached(name, value) for name, value in getattr(thing, "__dict__", {}).items())
    for cls in type(thing).__mro__:
        if not _is_a_backends(cls):
            continue
        for name, attribute in vars(cls).items():
            if isinstance(attribute, types.MemberDescriptorType):  # a slot
                yield Reached(name, getattr(thing, name, None))
            elif not isinstance(attribute, types.GetSetDescriptorType):
                yield from (Reached(name, part) for part in _unwrapped(attribute))
    yield from (Reached("", referent) for referent in gc.get_referents(thing))


def _of_function(function: types.FunctionType) -> Iterator[Reached]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield Reached(name, cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    yield from (Reached("", default) for default in function.__defaults__ or ())
    yield from (Reached(name, default) for name, default in (function.__kwdefaults__ or {}).items())
    if _is_a_backends(function):
        named = _names(code) & function.__globals__.keys()
        yield from (Reached(name, function.__globals__[name]) for name in named)


def _names(code: types.CodeType) -> set[str]:
    """Names that the code looks up, including those of nested functions."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _unwrapped(attribute: object) -> Iterator[object]:
    """A class attribute, or the functions that a descriptor is made of."""
    if isinstance(attribute, staticmethod | classmethod):
        yield attribute.__func__
    elif isinstance(attribute, property):
        yield from (attribute.fget, attribute.fset)
    else:
        yield attribute


def _is_a_backends(code: type | types.FunctionType) -> bool:
    return (code.__module__ or "builtins").partition(".")[0] not in _NOT_A_BACKENDS_CODE
