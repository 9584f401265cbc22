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
from helora_serve.offer import OfferDocument
from helora_serve.refusals import RefusalDocument

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"


def schema() -> dict[str, Any]:
    """The schema: ``fromClient`` and ``fromServer`` for headers, ``offer`` and ``refusal`` for HTTP bodies."""
    client, server = get_args(FromClient), get_args(FromServer)
    _, definitions = msgspec.json.schema_components(
        (*client, *server, OfferDocument, RefusalDocument), ref_template=_REF
    )

    def one_of(kinds: tuple[Any, ...]) -> dict[str, Any]:
        return {
            "oneOf": [{"$ref": _REF.format(name=each.__name__)} for each in kinds],
            "discriminator": {"propertyName": "type"},
        }

    return {
        "$schema": DRAFT,
        "title": SUBPROTOCOL,
        "description": "Headers of frames, the offer, and refusals. See docs/protocol.md.",
        "$defs": {
            **dict(sorted(definitions.items())),
            "fromClient": one_of(client),
            "fromServer": one_of(server),
            "offer": {"$ref": _REF.format(name=OfferDocument.__name__)},
            "refusal": {"$ref": _REF.format(name=RefusalDocument.__name__)},
        },
    }


def main(path: Path) -> None:
    """Write it."""
    path.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
