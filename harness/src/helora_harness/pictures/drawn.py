"""A picture as an SVG file: boxes, cells, arrows and words that fit, for light and for dark, on a page and by itself.

A file that is shown by ``<img>`` sees nothing of its page, so it has its own background and follows the reader's colour
scheme by itself. It is as wide as a phone can show with text that can be read, and asks for no font or other file.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH = 480
"""Units of every picture's width; on a phone 390 pixels wide one is some three quarters of a pixel."""

SIZES = {"": 15.0, "small": 13.5, "big": 18.0}
"""Heights of text in units, by class."""

_LIGHT = {
    "paper": "#ffffff", "ink": "#1c262c", "dim": "#51616a", "line": "#6b7c86",
    "client": "#d5f0ea", "client-edge": "#00796b", "server": "#e2e6fa", "server-edge": "#3f51b5",
    "plain": "#eef1f3", "plain-edge": "#90a4ae", "bad": "#fbe0da", "bad-edge": "#b83a26",
    "mark": "#fbeebf", "mark-edge": "#94730a", "room": "#f7f9fa",
}  # fmt: skip
_DARK = {
    "paper": "#1b2026", "ink": "#e8eef1", "dim": "#aebbc2", "line": "#93a3ac",
    "client": "#0d443d", "client-edge": "#4db6ac", "server": "#2b3466", "server-edge": "#8c9eff",
    "plain": "#2d363d", "plain-edge": "#78909c", "bad": "#57261e", "bad-edge": "#ff8a75",
    "mark": "#4f4213", "mark-edge": "#e3bd4a", "room": "#232a31",
}  # fmt: skip
FILLS = ("client", "server", "plain", "bad", "mark")


def _colours(palette: dict[str, str]) -> str:
    filled = "".join(f".{name}{{fill:{palette[name]};stroke:{palette[f'{name}-edge']}}}" for name in FILLS)
    return (
        f".paper{{fill:{palette['paper']}}}.room{{fill:{palette['room']};stroke:{palette['plain-edge']}}}"
        f"text{{fill:{palette['ink']}}}.dim{{fill:{palette['dim']}}}"
        f".line{{stroke:{palette['line']}}}.head{{fill:{palette['line']}}}{filled}"
    )


STYLE = (
    "text{font-family:sans-serif;font-size:15px}.small{font-size:13.5px}.big{font-size:18px}.bold{font-weight:bold}"
    ".code{font-family:monospace}.line{fill:none;stroke-width:1.6}.dashed{stroke-dasharray:5 4}.faint{stroke-width:.6}"
    ".flat{stroke:none!important}"
    f"{_colours(_LIGHT)}@media(prefers-color-scheme:dark){{{_colours(_DARK)}}}"
)

_NARROW, _WIDE = frozenset("ijl.,:;'|!()[] Itfr/"), frozenset("mwMW—…%@→←Σ")


def extent(words: str, css: str = "") -> float:
    """How many units a line of text takes, in a wide font: more than it takes in most."""
    classes = css.split()
    if "code" in classes:
        em = 0.602 * len(words)
    else:
        em = sum(0.39 if sign in _NARROW else 0.95 if sign in _WIDE else 0.70 if sign.isupper() else 0.62
                 for sign in words)  # fmt: skip
    size = next((SIZES[each] for each in classes if each in SIZES), SIZES[""])
    return em * size * (1.06 if "bold" in classes else 1.0)


class Picture:
    """A picture in the making.

    Args:
        name: Of the file, without its ending.
        title: A few words; read out.
        description: What it shows, in a sentence or two, for those who do not see it.
    """

    def __init__(self, name: str, title: str, description: str) -> None:
        self.name, self.title, self.description = name, title, description
        self._parts: list[str] = []
        self._bottom = 0.0

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start", room: float = WIDTH) -> None:
        """One line of text, with its baseline at y.

        Raises:
            ValueError: It may not fit into ``room`` units, or leaves the picture.
        """
        wide = extent(words, css)
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[anchor]
        if wide > room + 0.5 or left < 0 or left + wide > WIDTH:
            raise ValueError(f"{self.name}: {words!r} takes {wide:.0f} units of {room:.0f}, from {left:.0f}")
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        named = f' class="{css}"' if css else ""
        self._add(f'<text x="{x:g}" y="{y:g}"{named}{place}>{escape(words, quote=False)}</text>', y)

    def box(
        self, x: float, y: float, width: float, height: float, css: str, lines: Sequence[str | tuple[str, str]] = ()
    ) -> None:
        """A rounded box with centred lines, each words or words with their class."""
        self._add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{css}"/>', y + height)
        given = [(line, "") if isinstance(line, str) else line for line in lines]
        pitch = 19.0
        first = y + height / 2 - pitch * (len(given) - 1) / 2 + 5
        for i, (words, style) in enumerate(given):
            self.text(x + width / 2, round(first + pitch * i, 1), words, style, "middle", width - 8)

    def cell(self, x: float, y: float, size: float, css: str, words: str = "", style: str = "small") -> None:
        """A slot or coefficient: a square with what it holds."""
        self.bar(x, y, size, size, css)
        if words:
            self.text(x + size / 2, y + size / 2 + 5, words, style, "middle", size + 2)

    def bar(self, x: float, y: float, width: float, height: float, css: str) -> None:
        """A plain rectangle."""
        self._add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" class="{css}"/>', y + height)

    def dot(self, x: float, y: float, css: str) -> None:
        """A small circle around a point."""
        self._add(f'<circle cx="{x:g}" cy="{y:g}" r="5" class="{css}"/>', y + 5)

    def upright(self, x: float, y: float, words: str, css: str) -> None:
        """A word that reads from below to above, from a point on its baseline."""
        self._add(f'<text transform="translate({x:g} {y:g}) rotate(-90)" class="{css}">{escape(words)}</text>', y)

    def rule(self, x1: float, y1: float, x2: float, y2: float, css: str = "") -> None:
        """A straight line without a head."""
        self._add(f'<path class="{f"line {css}".strip()}" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>', max(y1, y2))

    def arrow(self, *points: tuple[float, float], css: str = "") -> None:
        """A line through points, with a head at the last; its last stretch is horizontal or vertical."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        if dx and dy:
            raise ValueError(f"{self.name}: an arrow arrives at a slant")
        shaft = [*points[:-1], (x - 7 * dx, y - 7 * dy)]
        d = "L".join(f"{px:g} {py:g}" for px, py in shaft)
        self._add(f'<path class="{f"line {css}".strip()}" d="M{d}"/>', max(py for _, py in points))
        ends = (x, y, x - 9 * dx - 4.5 * dy, y - 9 * dy - 4.5 * dx, x - 9 * dx + 4.5 * dy, y - 9 * dy + 4.5 * dx)
        self._add('<path class="head" d="M{:g} {:g}L{:g} {:g}L{:g} {:g}z"/>'.format(*ends), y)

    def lock(self, x: float, y: float) -> None:
        """A closed padlock, 12 units wide and 15 high, for what is encrypted."""
        self._add(f'<path class="line" d="M{x + 3:g} {y + 7:g}v-3a3 3 0 0 1 6 0v3"/>', y)
        self._add(f'<rect class="head" x="{x:g}" y="{y + 6:g}" width="12" height="9" rx="1.5"/>', y + 15)

    def svg(self) -> str:
        """The file."""
        height = round(self._bottom + 16)
        parts = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * 1.15:g}" height="{height * 1.15:g}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d">\n'
            f'<title id="t">{escape(self.title, quote=False)}</title>\n'
            f'<desc id="d">{escape(self.description, quote=False)}</desc>\n<style>{STYLE}</style>\n'
            f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>\n{parts}\n</svg>\n'
        )

    def _add(self, part: str, bottom: float) -> None:
        self._parts.append(part)
        self._bottom = max(self._bottom, bottom)
