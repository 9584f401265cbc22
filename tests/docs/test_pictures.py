"""The pictures are what the scripts draw, say in words what they show, and ask for no other file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("helora_harness")
pytest.importorskip("helora_rns", reason="plans in the pictures are for it")

from helora_harness.pictures import coefficients, drawn, gallery, rooms, slots
from helora_harness.pictures.drawn import Picture
from helora_harness.pictures.traced import numbered

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
FILES = sorted(gallery.ASSETS.glob("*.svg"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/*.md")])

_IMAGE = re.compile(r'!\[([^\]]*)\]\(([^)\s]+)\)|<img [^>]*?alt="([^"]*)"[^>]*?src="([^"]+)"')
_OUTSIDE = re.compile(r"""(?:href|src)\s*=|url\((?!#)|@import|<script|https?://(?!www\.w3\.org/2000/svg")""")


def images() -> Iterator[tuple[Path, str, str]]:
    """Page, alternative text and target of every image in the documentation."""
    for page in PAGES:
        for match in _IMAGE.finditer(page.read_text(encoding="utf-8")):
            yield page, match[1] or match[3] or "", match[2] or match[4]


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_committed_files_are_what_is_drawn() -> None:
    drawn_files = dict(gallery.files())
    assert sorted(drawn_files) == FILES, "a picture without a script, or a script without its picture"
    assert gallery.outdated() == [], "run `helora bench pictures render`, and look at them"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_picture_says_what_it_shows_and_asks_for_no_other_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert title.text
    assert description is not None
    assert description.text
    assert len(description.text) > len(title.text)
    assert root.get("role") == "img"
    assert _OUTSIDE.findall(text) == []


@pytest.mark.parametrize("bad", ['<a href="x">', "url(a.svg)", "@import 'x'", "<script>", "https://example.org/font"])
def test_a_reference_to_another_file_would_be_seen(bad: str) -> None:
    assert _OUTSIDE.search(bad)


def test_every_image_has_a_text_that_says_what_it_shows_and_every_picture_is_on_a_page() -> None:
    shown = list(images())
    assert [f"{page.name}: {target}" for page, alt, target in shown if len(alt.split()) < 4] == []
    used = {Path(target).name for _, _, target in shown}
    assert [path.name for path in FILES if path.name not in used] == []


@pytest.mark.parametrize("palette", [drawn._LIGHT, drawn._DARK], ids=["light", "dark"])
def test_text_can_be_read_on_every_background_in_either_scheme(palette: dict[str, str]) -> None:
    for background in ("paper", "room", *drawn.FILLS):
        assert contrast(palette["ink"], palette[background]) >= 7, background
    for background in ("paper", "room", "plain", "client", "server"):
        assert contrast(palette["dim"], palette[background]) >= 4.5, background
    assert contrast(palette["line"], palette["paper"]) >= 3


def test_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="takes"):
        Picture("p", "t", "d").box(0, 0, 60, 40, "plain", ["far too many words for a box"])
    with pytest.raises(ValueError, match="slant"):
        Picture("p", "t", "d").arrow((0, 0), (10, 10))


def test_the_last_row_of_rank_bsgs_holds_every_product_of_a_lora_once() -> None:
    ops, values, _ = slots.traced()
    shape, tokens = slots.SHAPE, slots.TOKENS
    places = values[len(ops) - 1]
    for slot, place in enumerate(places):
        output, token = divmod(slot, tokens)
        whole = {
            tuple(sorted((f"u{output},{j}", f"d{j},{i}", f"x{token},{i}")))
            for j in range(shape.rank)
            for i in range(shape.d_in)
        }
        assert set(place) == whole
        assert set(place.values()) == {1}


def test_coefficients_that_are_read_are_inner_products_and_no_others_are() -> None:
    _, _, product = coefficients.traced()
    found = []
    for i, place in enumerate(product):
        try:
            found.append((i, coefficients.inner_product(place)))
        except ValueError:
            continue
    wanted = coefficients.split().wanted(0)
    assert found == list(zip(wanted, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True))


def test_weights_are_told_apart_by_name() -> None:
    module, names = numbered(slots.SHAPE)
    assert len(names) == module.down.size + module.up.size


def test_rooms_are_those_of_the_package_and_rooms_that_import_each_other_have_no_floor() -> None:
    graph = rooms.imports()
    height = rooms.floors(graph)
    assert {"cli", "compiler", "packing", "params", "errors"} <= height.keys()
    assert all(height[name] > height[other] for name, others in graph.items() for other in others)
    with pytest.raises(ValueError, match="import each other"):
        rooms.floors({"errors": {"cli"}, "cli": {"errors"}})
