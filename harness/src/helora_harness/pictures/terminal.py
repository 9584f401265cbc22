"""What ``helora demo`` shows in a terminal: a recorded run, ``harness/demo.json``, drawn by rich.

``helora bench pictures record`` runs it anew; the fastest of several runs is kept, with what all of them said.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from xml.sax.saxutils import escape

import msgspec

from helora_harness.machine import machine_facts
from helora_harness.places import DATA

RECORD = DATA / "demo.json"
NAME = "demo"
COLUMNS = 80
TITLE = "helora demo, in a terminal of 80 columns"

_VERDICT = re.compile(r"(\d+) of (\d+) modules agree with plaintext LoRA to ≥ ([\d.]+) bits, ([\d.]+) ms a token")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" width="{{width}}" height="{{height}}" \
viewBox="0 0 {{width}} {{height}}" role="img" aria-labelledby="{{unique_id}}-t {{unique_id}}-d">
<title id="{{unique_id}}-t">{title}</title>
<desc id="{{unique_id}}-d">{description}</desc>
<style>.{{unique_id}}-matrix{{{{font-family:monospace;font-size:{{char_height}}px;line-height:{{line_height}}px}}}}
.{{unique_id}}-title{{{{font-family:sans-serif;font-size:18px;font-weight:bold}}}}
{{styles}}</style>
<defs><clipPath id="{{unique_id}}-clip-terminal">
<rect width="{{terminal_width}}" height="{{terminal_height}}"/></clipPath>
{{lines}}</defs>
{{chrome}}
<g transform="translate({{terminal_x}}, {{terminal_y}})" clip-path="url(#{{unique_id}}-clip-terminal)">
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g></g></svg>
"""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the demo.

    Attributes:
        date: Day of the run, UTC.
        machine: Hardware class.
        cpu_model: Its processor.
        threads: Threads that the engine computed with.
        ms_per_token: Time of all modules, a token, of each run that was made.
        bits: Least precision of each run.
        screen: What the fastest run printed, with its escapes.
    """

    date: str
    machine: str
    cpu_model: str
    threads: int
    ms_per_token: tuple[float, ...]
    bits: tuple[float, ...]
    screen: str

    @property
    def verdict(self) -> tuple[int, int, float, float]:
        """Modules that agree, all modules, least bits and milliseconds a token, as the screen has them."""
        return verdict(self.screen)


def plain(screen: str) -> str:
    """A screen's text."""
    return _COLOUR.sub("", screen).replace("\r\n", "\n")


def verdict(screen: str) -> tuple[int, int, float, float]:
    """The figures of the sentence that ends a run."""
    found = _VERDICT.search(" ".join(plain(screen).split()))
    if found is None:
        raise ValueError(f"no verdict in {plain(screen)!r}")
    return int(found[1]), int(found[2]), float(found[3]), float(found[4])


def load() -> Recorded:
    """The committed run."""
    return msgspec.json.decode(RECORD.read_bytes(), type=Recorded)


def record(runs: int) -> Recorded:
    """Run the demo several times, on one thread, and keep the fastest."""
    screens = [_shown() for _ in range(runs)]
    figures = [verdict(screen) for screen in screens]
    facts = machine_facts()
    return Recorded(
        date=datetime.now(timezone.utc).date().isoformat(),
        machine=facts["machine"],
        cpu_model=facts["cpu_model"],
        threads=1,
        ms_per_token=tuple(ms for *_, ms in figures),
        bits=tuple(bits for _, _, bits, _ in figures),
        screen=min(zip(figures, screens, strict=True), key=lambda each: each[0][3])[1],
    )


def _shown() -> str:
    """What the demo prints on a terminal; standard error, with its progress bar, is left out."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "HELORA_THREADS": "1",
                   "HELORA_PROFILES": os.devnull, "HELORA_CONFIG": os.devnull}  # fmt: skip
    helora = Path(sys.executable).parent / "helora"
    process = subprocess.Popen([helora, "demo"], stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(1 << 16)
            except OSError:  # how Linux says that the other end was closed
                break
            if not part:
                break
            shown += part
    if process.wait():
        raise RuntimeError(f"the demo failed: {plain(shown.decode())}")
    return shown.decode()


def svg() -> str:
    """The recorded screen as a file."""
    from rich.console import Console
    from rich.text import Text

    recorded = load()
    agreeing, modules, bits, ms = recorded.verdict
    description = (
        f"The command helora demo printed a table of the adapter's modules, and then: {agreeing} of {modules} modules "
        f"agree with plaintext LoRA to at least {bits:g} bits, {ms:g} ms a token, encrypted. Recorded on "
        f"{recorded.date} on {recorded.cpu_model}, one thread."
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text("$ helora demo", style="bold"))
    console.print(Text.from_ansi(recorded.screen.replace("\r\n", "\n").rstrip()))
    code = _FORMAT.format(title=escape(TITLE), description=escape(description))
    drawn: str = console.export_svg(title="helora demo", code_format=code, unique_id=NAME)
    return drawn
