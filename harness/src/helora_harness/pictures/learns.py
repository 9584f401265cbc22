"""Who learns what: the server, and the key holder by each class of leakage that a packing states."""

from __future__ import annotations

from helora_core.host.manager import get_manager
from helora_core.privacy.leakage import LeakageClass
from helora_harness.pictures.drawn import Picture

ORDER = (LeakageClass.NOTHING, LeakageClass.MASKED_Z, LeakageClass.Z, LeakageClass.PRODUCTS)

SEEN, SEALED, UNSEEN = "seen", "sealed", "unseen"

WHAT = (
    # What, the server, and the key holder for each class.
    ("activations x", SEALED, (SEEN, SEEN, SEEN, SEEN)),
    ("Δ", SEALED, (SEEN, SEEN, SEEN, SEEN)),
    ("shape, plan, runs", SEEN, (SEEN, SEEN, SEEN, SEEN)),
    ("size of weights ¹", SEEN, (SEEN, SEEN, SEEN, SEEN)),
    ("z under a mask", SEALED, (UNSEEN, SEEN, UNSEEN, UNSEEN)),
    ("z = down · x", SEALED, (UNSEEN, UNSEEN, SEEN, SEEN)),
    ("x_j · down_ij", SEALED, (UNSEEN, UNSEEN, UNSEEN, SEEN)),
    ("down, up", SEEN, (UNSEEN, UNSEEN, SEEN, SEEN)),
)


def by_class() -> dict[LeakageClass, list[str]]:
    """The packings that are registered, by what they say that the key holder learns."""
    manager = get_manager()
    found: dict[LeakageClass, list[str]] = {each: [] for each in ORDER}
    for name, registered in manager.packings().items():
        if registered.plugin == "core":
            found[manager.load_packing(name).leakage.key_holder].append(name)
    return found


def picture() -> Picture:
    """A table, and which packings each column is."""
    packings = by_class()
    p = Picture(
        "who-learns-what",
        "Who learns what: the server, and the client by class of leakage",
        "The server sees x, Δ and z as ciphertexts only; it has the weights, and sees shapes, plans and the number of "
        "runs. The client sees x and Δ. With packings of class nothing it sees no more; with masked z, z under a "
        "uniform mask; with z and products it sees z or all products, and must own the weights anyway. "
        + " ".join(f"{each.value}: {', '.join(names)}." for each, names in packings.items()),
    )
    left, wide, top, high = 150.0, 64.0, 62.0, 34.0
    p.text(left + wide / 2, 28, "server", "small bold", "middle")
    p.text(left + 3 * wide, 20, "client, by class of leakage", "small bold", "middle")
    for i, each in enumerate(ORDER):
        p.text(left + wide * (i + 1.5), 44, each.value, "small", "middle")
    p.rule(left + wide + 6, 28, left + 5 * wide, 28)
    for row, (what, server, clients) in enumerate(WHAT):
        y = top + high * row
        p.text(14, y + 21, what, "small")
        for column, seen in enumerate((server, *clients)):
            css = {SEEN: "server" if column == 0 else "client", SEALED: "plain", UNSEEN: "room"}[seen]
            x = left + wide * column
            p.bar(x + 2, y + 2, wide - 4, high - 4, css)
            if seen is SEEN:
                owns = what == "down, up"
                p.text(x + wide / 2, y + 21, "owns" if owns else "sees", "small", "middle")
            elif seen is SEALED:
                p.lock(x + wide / 2 - 6, y + 8)
    y = top + high * len(WHAT) + 22
    p.lock(14, y - 13)
    p.text(34, y, "has it as a ciphertext, and no key; blank: never there", "small")
    for each, names in packings.items():
        y += 26
        p.text(14, y, each.value, "small bold")
        lines = _wrapped(names, 46)
        for i, words in enumerate(lines):
            y += 19 * (i > 0)
            p.text(100, y, words, "small code")
    y += 30
    p.text(14, y, "From sanitised results. z and products are refused unless", "small dim")
    p.text(14, y + 19, "allowed: the client needs the adapter. ¹ to a factor of two", "small dim")
    return p


def _wrapped(names: list[str], most: int) -> list[str]:
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}, {name}" if lines[-1] else name
        if len(longer) > most:
            lines[-1] += ","
            lines.append(name)
        else:
            lines[-1] = longer
    return lines
