"""Kernels whose arrays keep to themselves, as a card's do: whoever mixes them with NumPy's, or reads them without
``to_host``, is refused. What runs on these leaves all values where the kernels are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helora_rns.arrays import aligned_copy


class Resident:
    """An array that only its own kernels, and arithmetic with its like and with numbers, can be used on."""

    __slots__ = ("__weakref__", "_own")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, own: Any) -> None:
        self._own = own

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("an array of the device's was taken for one of the host's")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        assert method == "__call__", method
        if out is not None:
            options["out"] = tuple(map(inside, out))
        return _outside(ufunc(*map(inside, inputs), **options))

    def __array_function__(self, function: Any, _: Any, args: Any, options: Any) -> Any:
        if function not in (np.stack, np.concatenate):
            raise TypeError(f"{function.__name__} is not known to run on a device")
        return Resident(function([inside(each) for each in args[0]], **options))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array_"):  # by which NumPy would read the memory
            raise AttributeError(name)
        found = getattr(self._own, name)
        if callable(found):
            return lambda *args, **options: _outside(found(*map(inside, args), **options))
        return _outside(found)

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Any:
        return (_outside(each) for each in self._own)

    def __getitem__(self, place: Any) -> Any:
        return _outside(self._own[_place(place)])

    def __setitem__(self, place: Any, value: Any) -> None:
        self._own[_place(place)] = inside(value)


def _place(place: Any) -> Any:
    if isinstance(place, tuple):
        return tuple(map(_place, place))
    return inside(place) if isinstance(place, Resident) else place


def inside(value: Any) -> Any:
    """What a resident array is made of; numbers are what they are."""
    if isinstance(value, Resident):
        return value._own
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host's was taken for one of the device's")
    return value


def _outside(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Resident(value)
    return tuple(map(_outside, value)) if type(value) is tuple else value


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
):
    for _form in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        if hasattr(np.ndarray, _form):

            def _operator(self: Resident, other: Any, _form: str = _form) -> Any:
                result = getattr(self._own, _form)(inside(other))
                return self if _form.startswith("__i") else _outside(result)

            setattr(Resident, _form, _operator)


class Guarded:
    """Kernels of the host's, with arrays that are taken for a device's."""

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._kernels, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            result = found(*map(_inward, args), **{key: _inward(value) for key, value in options.items()})
            return [_outside(each) for each in result] if isinstance(result, list) else _outside(result)

        return call

    def to_device(self, array: Any) -> Any:
        return Resident(self._kernels.to_device(aligned_copy(array)))

    def to_host(self, array: Any) -> Any:
        return np.array(self._kernels.to_host(inside(array)))

    def stream(self, *args: Any) -> Any:
        own = self._kernels.stream(*args)

        class Words:
            def words(self, count: int) -> Any:
                return Resident(own.words(count))

        return Words()


def _inward(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and isinstance(value[0], Resident | np.ndarray):
        return type(value)(map(inside, value))
    return inside(value) if isinstance(value, Resident | np.ndarray) else value
