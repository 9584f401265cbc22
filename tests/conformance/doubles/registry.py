"""The registry: a double is a class with one fault and the name of the law that catches it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc

from doubles.honest import HonestBackend, HonestDecryptor, HonestEncoder, HonestEvaluator, HonestRole
from helora_core.backend.protocol import Backend

DOUBLES: dict[str, Double] = {}
"""All doubles by name."""


@dataclass(frozen=True)
class Double:
    """A backend that is wrong in one thing.

    Attributes:
        name: What it does wrong, in a few words.
        factory: Makes the backend.
        law: The law that catches it (others may as well).
        fault: One line.
        seen: Where such a fault was seen, or what it comes from.
    """

    name: str
    factory: Callable[[], Backend]
    law: str
    fault: str
    seen: str


def caught_by(law: str) -> Callable[[type], type]:
    """Register a subclass of an honest class as a double that ``law`` catches.

    A backend is made of the faulty class and honest ones: a faulty ``HonestRole`` becomes both roles, a faulty encoder
    that ``encrypts_too`` is in both.
    """

    def register(faulty: type) -> type:
        name = re.sub(r"(?<!^)(?=[A-Z])", " ", faulty.__name__).lower().replace("na n", "NaN")
        fault, _, seen = (getdoc(faulty) or "").partition("\n\n")
        if not fault or not seen or name in DOUBLES:
            raise ValueError(
                f"{faulty.__name__}: a double needs a name of its own, and says what is wrong and where from"
            )
        DOUBLES[name] = Double(name, _backend_of(faulty), law, fault, " ".join(seen.split()))
        return faulty

    return register


def _backend_of(faulty: type) -> type[HonestBackend]:
    if issubclass(faulty, HonestBackend):
        return faulty
    roles: dict[str, type] = {}
    if issubclass(faulty, HonestEncoder):
        roles["encoder_type"] = faulty
        if faulty.encrypts_too:
            for part, role in (("decryptor_type", HonestDecryptor), ("evaluator_type", HonestEvaluator)):
                roles[part] = type(f"{faulty.__name__}{role.__name__}", (role,), {"encoder_type": faulty})
    if issubclass(faulty, HonestDecryptor):
        roles["decryptor_type"] = faulty
    elif issubclass(faulty, HonestEvaluator):
        roles["evaluator_type"] = faulty
    elif issubclass(faulty, HonestRole):
        roles["decryptor_type"] = type(f"{faulty.__name__}Client", (faulty, HonestDecryptor), {})
        roles["evaluator_type"] = type(f"{faulty.__name__}Server", (faulty, HonestEvaluator), {})
    return type(f"{faulty.__name__}Backend", (HonestBackend,), roles)
