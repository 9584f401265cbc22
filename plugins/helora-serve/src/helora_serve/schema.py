"""JSON Schema of what crosses the network, made of the classes that read it: ``python -m helora_serve.schema FILE``.

Headers of frames are MessagePack; the schema holds for the same values as JSON, in which bytes are base64.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from helora_serve.frames import SUBPROTOCOL, FromClient, FromServer
from helora_serve.hosted.compare import CompareRequest, Comparison
from helora_serve.mode import ModesDocument
from helora_serve.offer import OfferDocument
from helora_serve.proxy.schemas import ChatRequest
from helora_serve.refusals import RefusalDocument
from helora_serve.split.frames import SUBPROTOCOL as SPLIT_SUBPROTOCOL
from helora_serve.split.frames import FromSplitClient, FromSplitServer
from helora_serve.split.offer import SplitOffer
from helora_serve.split.selftest import SelfTest

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"


def schema() -> dict[str, Any]:
    """The schema: ``fromClient`` and ``fromServer`` for headers, with ``Split`` in their names for those of mode
    ``split``, and the others for HTTP bodies.
    """
    headers = {
        "fromClient": get_args(FromClient),
        "fromServer": get_args(FromServer),
        "fromSplitClient": get_args(FromSplitClient),
        "fromSplitServer": get_args(FromSplitServer),
    }
    bodies = {
        "offer": OfferDocument, "refusal": RefusalDocument, "modes": ModesDocument, "splitOffer": SplitOffer,
        "selftest": SelfTest, "chatRequest": ChatRequest, "compareRequest": CompareRequest, "comparison": Comparison,
    }  # fmt: skip
    kinds = (*(each for many in headers.values() for each in many), *bodies.values())
    _, definitions = msgspec.json.schema_components(kinds, ref_template=_REF)

    def one_of(kinds: tuple[Any, ...]) -> dict[str, Any]:
        return {
            "oneOf": [{"$ref": _REF.format(name=each.__name__)} for each in kinds],
            "discriminator": {"propertyName": "type"},
        }

    found = json.dumps(
        {
            "$schema": DRAFT,
            "title": f"{SUBPROTOCOL}, {SPLIT_SUBPROTOCOL}",
            "description": "Headers of frames, and bodies of HTTP. See docs/protocol.md.",
            "$defs": {
                **dict(sorted(definitions.items())),
                **{name: one_of(each) for name, each in headers.items()},
                **{name: {"$ref": _REF.format(name=each.__name__)} for name, each in bodies.items()},
            },
        }
    )  # as JSON has it: no tuples
    document: dict[str, Any] = json.loads(found)
    return document


def main(path: Path) -> None:
    """Write it."""
    path.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
