"""The names that a client asks for: compiled modules, the parts that they were made of, and endings of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helora_core.adapter.names import close_names, matches
from helora_core.compiler.compiled import Part
from helora_core.errors import InvalidInput


class Names:
    """What names mean.

    Args:
        modules: The parts of each compiled module, by its name.
    """

    def __init__(self, modules: Mapping[str, Sequence[Part]]) -> None:
        self._modules = {name: tuple(part.name for part in parts) for name, parts in modules.items()}

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part of every module."""
        return tuple(part for parts in self._modules.values() for part in parts)

    def parts_of(self, name: str) -> list[str]:
        """The parts that a name means: one, or all parts of a compiled module. Errors are those of ``module``."""
        module = self.module(name)
        parts = list(self._modules[module])
        if name == module:
            return parts
        return [part for part in parts if part == name] or [part for part in parts if matches(part, name)] or parts

    def modules(self, names: str | Sequence[str]) -> list[str]:
        """The compiled modules that one name or several mean, each once. Errors are those of ``module``."""
        return list(dict.fromkeys(map(self.module, [names] if isinstance(names, str) else names)))

    def module(self, name: str) -> str:
        """The compiled module that a name means: its own name, that of a part, or an ending that only one has.

        Raises:
            InvalidInput: It means none, or several.
        """
        own = {module: {module, *parts} for module, parts in self._modules.items()}
        exact = [compiled for compiled, names in own.items() if name in names]
        found = exact or [compiled for compiled, names in own.items() if any(matches(each, name) for each in names)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInput(
                f"Client: {name!r} means {len(found)} modules, {found[0]} and {found[1]} among them.",
                hint="Give more of the name.",
            )
        close = ", ".join(close_names(name, self.parts))
        raise InvalidInput(
            f"Client: no module matches {name!r}.",
            hint=f"Did you mean {close}?" if close else f"Use a name or its ending, as {self.parts[0]}.",
        )
