"""What the proxy says when it starts, for people, in lines of at most 80 columns."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

_WIDTH = 80
_INDENT = 12


@dataclass(frozen=True)
class Serving:
    """What is served.

    Attributes:
        url: The API's base URL.
        base: Folder of the base model, or its name.
        models: Names of the models that can be asked.
        host: The address of the adapters' host; None for this process.
        mode: Who runs what.
        sees: What that protects, and what the host sees.
        leakage: What whoever has the keys learns beyond Δ.
        offer: SHA-256 of the host's offer.
    """

    url: str
    base: str
    models: tuple[str, ...]
    host: str | None
    mode: str
    sees: str
    leakage: str
    offer: str

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {"event": "serving", **asdict(self)}

    def lines(self) -> list[str]:
        """For people."""
        adapters = ", ".join(self.models[1:])
        where = "in this process, too" if self.host is None else f"at {self.host}"
        asked = {"model": self.models[-1], "messages": [{"role": "user", "content": "Hello"}]}
        model = json.dumps(self.models[-1], ensure_ascii=False)
        return [
            *_entry("address", f"{self.url} (this machine only; Ctrl-C drains and ends it)"),
            *_entry("base model", f"{self.models[0]}, here, of {self.base}"),
            *_entry("adapters", f"{adapters}, {where}"),
            *_entry("mode", self.sees),
            *_entry("leakage", f"{self.leakage}, beyond Δ; offer {self.offer[:16]}"),
            "",
            "try",
            f"  curl {self.url}/chat/completions \\",
            "    -H 'content-type: application/json' \\",
            *_shell(asked),
            "",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{self.url}", api_key="none")',
            '  messages = [{"role": "user", "content": "Hello"}]',
            "  answer = client.chat.completions.create(",
            f"      model={model}, messages=messages)",
            "  print(answer.choices[0].message.content)",
        ]


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{name:<{_INDENT}}", subsequent_indent=_INDENT * " ", break_on_hyphens=False
    )


def _shell(asked: dict[str, Any]) -> list[str]:
    model, messages = (json.dumps(asked[key], ensure_ascii=False).replace("'", r"'\''") for key in asked)
    return [f"""    -d '{{"model": {model},""", f"""         "messages": {messages}}}'"""]
