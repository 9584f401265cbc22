"""Makes a new backend from the template: a distribution that works at once, with marks where the library's calls go.

The template, ``plugins/_template`` in the repository and ``_template`` in the wheel, is a backend named ``acme``, which
can be read, linted and type-checked in place. Rendering replaces that name and nothing else.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from helora_core.errors import InvalidInput

RESERVED = frozenset({"auto", "core"})
"""Names with another meaning: ``auto`` for ``--backend``, and ``core`` for helora-core's own plugin."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST_NAME = 32
_MARK = re.compile(r"FILL IN (\d+): (.+?)(?: -->.*)?$", re.MULTILINE)
_MARKED = ("pyproject.toml", "README.md", "src/**/*.py")


@dataclass(frozen=True, order=True)
class FillIn:
    """One thing that is left to do for the author of a backend.

    Attributes:
        number: Its place in the recommended order.
        path: The file, relative to the distribution's folder, with slashes.
        line: The line in the file, from 1.
        what: What to do there.
    """

    number: int
    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"FILL IN {self.number}: {self.what} ({self.path}:{self.line})"


def left_to_fill_in(folder: Path) -> tuple[FillIn, ...]:
    """The marks left in a distribution, in order."""
    found = []
    for path in {path for pattern in _MARKED for path in folder.glob(pattern)}:
        text = path.read_text(encoding="utf-8")
        for mark in _MARK.finditer(text):
            line = text.count("\n", 0, mark.start()) + 1
            found.append(FillIn(int(mark[1]), path.relative_to(folder).as_posix(), line, mark[2]))
    return tuple(sorted(found))


def template_folder() -> Path:
    """The template's folder: in the package if that was installed, beside it in a checkout.

    Raises:
        InvalidInput: The template is in neither place.
    """
    package = Path(__file__).parents[1]
    places = (package / "_template", package.parent / "plugins" / "_template")
    for place in places:
        if (place / "pyproject.toml").is_file():
            return place
    raise InvalidInput(
        f"new-backend: the template is neither in {places[0]} nor in {places[1]}.",
        hint="Reinstall helora-core, or run it from a whole checkout.",
    )


def new_backend(name: str, directory: Path, *, taken: Collection[str] = ()) -> Path:
    """Render the template as the distribution ``helora-NAME`` in ``directory``, whole or not at all.

    Args:
        name: What users will type after ``--backend``: lower-case words of letters and digits, joined by underscores.
        directory: An existing directory; the distribution becomes a folder in it.
        taken: Names in use by other backends and plugins.

    Returns:
        The distribution's folder.

    Raises:
        InvalidInput: The name is malformed or taken, the folder already exists, or it cannot be written.
    """
    _check_name(name, taken)
    target = directory / f"helora-{name.replace('_', '-')}"
    if target.exists() or target.is_symlink():
        raise InvalidInput(f"new-backend: {target} already exists.", hint="Remove it, or choose another --directory.")
    if not directory.is_dir():
        raise InvalidInput(f"new-backend: {directory} is not a directory.", hint="Make it first, or choose another.")
    try:
        with tempfile.TemporaryDirectory(prefix=".new-backend-", dir=directory) as unfinished:
            # A folder inside the temporary one, whose permissions shut out everyone but its owner.
            folder = Path(unfinished, target.name)
            for path, text in _rendered(name):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8", newline="\n")
            folder.rename(target)
    except OSError as error:
        raise InvalidInput(
            f"new-backend: {target} cannot be written ({error.strerror or error}).",
            hint="Choose a --directory that you may write to, on a disk with room.",
        ) from error
    return target


def _check_name(name: str, taken: Collection[str]) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        words = "_".join(re.findall(r"[a-z][a-z0-9]*|[0-9]+", name.lower()))[:_LONGEST_NAME].lstrip("0123456789_")
        raise InvalidInput(
            f"new-backend: {name!r} is not a name of lower-case words of letters and digits, joined by underscores, "
            f"at most {_LONGEST_NAME} characters.",
            hint=f"Try {words.rstrip('_')!r}." if words else "Name it after the library, as in 'acme'.",
        )
    if name in RESERVED or name in taken:
        raise InvalidInput(
            f"new-backend: the name {name!r} is taken.",
            hint="Choose another; `helora backends` lists those in use.",
        )


def _rendered(name: str) -> Iterator[tuple[Path, str]]:
    """The path and text of each file of the distribution."""
    title = "".join(word.capitalize() for word in name.split("_"))
    names = {"helora-acme": f"helora-{name.replace('_', '-')}", "acme": name, "Acme": title}

    def render(text: str) -> str:
        return re.sub("|".join(names), lambda found: names[found[0]], text)

    template = template_folder()
    for path in sorted(template.rglob("*")):
        relative = path.relative_to(template)
        # Files that building or testing the template in place leaves behind are not part of it.
        left_behind = any(part.startswith(".") or part in {"__pycache__", "build", "dist"} for part in relative.parts)
        if path.is_file() and not left_behind:
            yield Path(render(relative.as_posix())), render(path.read_text(encoding="utf-8"))
