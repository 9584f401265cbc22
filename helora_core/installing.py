"""How to install another of helora's distributions, from where this one came.

None of them is on the package index: in a checkout they are folders, and otherwise wheels beside that of helora-core.
"""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).parents[1]


def install_line(distribution: str, extra: str = "", *, checkout: Path = _CHECKOUT) -> str:
    """The command that installs a distribution of this repository.

    Args:
        distribution: Such as ``helora-tenseal``.
        extra: Of its extras, if one is needed.
        checkout: Where to look for a checkout; the folder that this package lies in.
    """
    wanted = f"[{extra}]" if extra else ""
    folder = f"plugins/{distribution}" if distribution != "helora-core" else "."
    if (checkout / folder / "pyproject.toml").is_file():
        return f"pip install -e '{folder}{wanted}'"
    return f"pip install --find-links WHEELS '{distribution}{wanted}', with the folder that helora's wheels are in"
