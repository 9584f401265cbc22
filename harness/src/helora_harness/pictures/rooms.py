"""The rooms of helora_core and who imports whom, read off its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import helora_core
from helora_harness.pictures.drawn import Picture

PACKAGE = Path(helora_core.__file__).parent


def rooms() -> set[str]:
    """The top-level parts of helora_core, but for the package's own doors."""
    parts = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or next(path.rglob("*.py"), None)]
    return {path.stem for path in parts if not path.name.startswith("_")}


def imports() -> dict[str, set[str]]:
    """For each room, the other rooms that any of its modules imports, for types too."""
    names = rooms()
    found: dict[str, set[str]] = {name: set() for name in sorted(names)}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in found:
            found[room] |= set(_imported(path, names)) - {room}
    return found


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it imports.

    Raises:
        ValueError: Some rooms import each other.
    """
    found: dict[str, int] = {}
    while len(found) < len(graph):
        ready = [name for name in graph if name not in found and graph[name] <= found.keys()]
        if not ready:
            raise ValueError(f"these import each other: {sorted(graph.keys() - found.keys())}")
        found |= {name: 1 + max((found[other] for other in graph[name]), default=-1) for name in ready}
    return found


def _imported(path: Path, names: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "helora_core" and len(parts) > 1 and parts[1] in names:
                yield parts[1]


def picture() -> Picture:
    """A dot for each import; all lie on one side of the diagonal."""
    graph = imports()
    height = floors(graph)
    order = sorted(graph, key=lambda name: (-height[name], name))
    p = Picture(
        "rooms",
        "The rooms of helora_core: imports go one way",
        "A row for each room, the highest first, and a dot under each room that it imports: all lie right of the "
        "diagonal. "
        + " ".join(
            f"{name}: {', '.join(each for each in order if each in graph[name]) or 'nothing'}." for name in order
        ),
    )
    left, size = 132.0, 336.0 / len(order)
    top = 116.0
    p.text(14, 30, "room", "small dim")
    for i, name in enumerate(order):
        p.upright(left + size * (i + 0.5) + 4.5, top - 8, name, "small")
    for i, name in enumerate(order):
        y = top + size * 1.3 * i
        if i and height[order[i - 1]] != height[name]:
            p.rule(14, y, left + size * len(order), y, "faint")
        p.text(14, y + size * 0.65 + 5, name, "small bold")
        for j, other in enumerate(order):
            x, middle = left + size * (j + 0.5), y + size * 0.65
            if i == j:
                p.bar(x - 4, middle - 4, 8, 8, "plain")
            elif other in graph[name]:
                p.dot(x, middle, "server")
    y = top + size * 1.3 * len(order) + 20
    p.text(14, y, "A row imports the rooms with a dot: only rooms below it.", "small dim")
    p.text(14, y + 19, "No room imports a plugin or a CKKS library.", "small dim")
    return p
