"""Types what ``docs/first-hour.md`` says, on a machine that has nothing, and writes how long each command took.

``python -m tests.docs.first_hour`` clones the checkout's HEAD into an empty folder with an empty home and empty caches,
in a terminal of 80 columns, types every command of the page, and writes ``harness/first-hour.json`` and the page's
table. The adapter is made first, by PEFT, as its reader's is; Δ is held to PEFT's own. It needs torch, transformers and
peft.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from tests.docs.command_lines import FENCE, ROOT, typed

PAGE, RESULTS = ROOT / "docs" / "first-hour.md", ROOT / "harness" / "first-hour.json"
BEGIN, END = "<!-- begin: written by tests/docs/first_hour.py -->\n", "<!-- end -->"
COLUMNS = 80
HISTORY = "http://127.0.0.1:8000/"
BITS = 10
"""Of Δ that have to agree with PEFT's."""

_PROMPT = """
while IFS= read -r -d '' line <&3; do eval "$line" < /dev/null; echo $? >&4; done
"""
_KEPT = re.compile(r"(PIP|UV|SSL|HTTPS?|NO|REQUESTS|CURL)_|LANG$", re.IGNORECASE)
"""Variables by which a machine reaches its package indexes. They stay; all others go."""
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")


def steps(page: str) -> list[tuple[str, list[str]]]:
    """The page's steps, each with its commands, one a line."""
    result = []
    for part in page.split("\n## ")[1:]:
        title = part.partition("\n")[0]
        if re.match(r"\d\. ", title):
            scripts = (typed(fence["language"], fence["text"]) or "" for fence in FENCE.finditer(part))
            result.append((title, [line for script in scripts for line in script.splitlines() if line.strip()]))
    return result


def table(measured: dict[str, Any]) -> str:
    """The page's table, with what it was measured on."""
    lines = ["| step | command | seconds |", "|---|---|--:|"]
    total = 0.0
    for step in measured["steps"]:
        for at, each in enumerate(step["commands"]):
            lines.append(f"| {'' if at else step['title']} | `{each['command']}` | {each['seconds']:.1f} |")
        total += sum(each["seconds"] for each in step["commands"])
    lines.append(f"| all | | {total:.0f} |")
    facts = (
        measured["date"], f"commit {measured['commit'][:8]}", f"{measured['machine']} ({measured['cpu_model']})",
        f"Python {measured['python']}", measured["os"], f"load average {measured['load']}",
    )  # fmt: skip
    where = (
        f"{', '.join(facts)}. PEFT {measured['peft']} made the adapter, and Δ agrees with PEFT's own to "
        f"{measured['bits']:.1f} bits."
    )
    return "\n".join([*lines, "", where]) + "\n"


class Terminal:
    """A shell whose output is a terminal of 80 columns. Use it in a ``with`` statement."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        lines, self._lines = os.pipe()
        self._answers, answers = os.pipe()
        command = f"exec 3<&{lines} 4>&{answers}; {_PROMPT}"
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", command], cwd=folder, env=variables, stdin=subprocess.DEVNULL,
            stdout=slave, stderr=slave, start_new_session=True, pass_fds=(lines, answers),
        )  # fmt: skip
        for each in (slave, lines, answers):
            os.close(each)
        self._shown = bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *about: object) -> None:
        os.killpg(self._shell.pid, signal.SIGTERM)
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # how Linux says that nobody writes any more
                return
            if not piece:
                return
            self._shown += piece

    def type(self, command: str, *, serves: str = "") -> tuple[float, str]:
        """Seconds that a command took, and what it showed; with ``serves``, until that address answers.

        Raises:
            SystemExit: It failed.
        """
        start, before = time.monotonic(), len(self._shown)
        os.write(self._lines, f"{command}{' &' if serves else ''}\0".encode())
        status = b""
        while not status.endswith(b"\n"):
            status += os.read(self._answers, 16) or b"1\n"
        while serves and not _answers(serves):
            if time.monotonic() - start > 600:
                raise SystemExit(f"{command}: {serves} does not answer")
            time.sleep(0.1)
        seconds = time.monotonic() - start
        time.sleep(0.2)  # for what is on its way
        shown = self._shown[before:].decode(errors="replace")
        if int(status):
            raise SystemExit(f"{command}: exit status {int(status)}\n{shown[-4000:]}")
        return seconds, shown


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5) as answer:
            return bool(answer.read())
    except OSError:
        return False


def widest(shown: str) -> int:
    """Columns of the widest line that was shown, but for one of pytest's that is as long as a folder's name."""
    return max(len(line) for line in re.split(r"[\r\n]", _ESCAPE.sub("", shown)) if not line.startswith("rootdir: "))


def of_helora(command: str) -> bool:
    """Whether what a command shows is helora's. Before that, ``uv run`` and pip may say something."""
    return re.match(r"(uv run )?helora ", command) is not None


def variables(place: Path) -> dict[str, str]:
    """Those of an empty machine: a home with nothing in it, and Python's ``pip`` first among programs."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.match(name)}
    for name in ("UV_CACHE_DIR", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"):
        kept.pop(name, None)
    home, scratch = place / "home", place / "tmp"
    for folder in (home, scratch):
        folder.mkdir()
    # An interpreter that pip may install into, as images of Python have it.
    subprocess.run([sys.executable, "-m", "venv", str(place / "python")], check=True)
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if _is_systems(Path(folder))]
    path = os.pathsep.join([str(place / "python" / "bin"), *folders])
    return kept | {"PATH": path, "HOME": str(home), "TMPDIR": str(scratch), "TERM": "xterm-256color"}


def _is_systems(folder: Path) -> bool:
    return not any((folder / name).exists() for name in ("helora", "uv", "nox", "activate"))


def write_adapter(folder: Path) -> np.ndarray:
    """An adapter in the shape of a layer of Qwen2.5-1.5B, by PEFT, and PEFT's Δ of ``q_proj`` for the page's ``x.npy``.

    Returns:
        Δ, float64, of shape (tokens, d_out).
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64, hidden_size=1536, intermediate_size=64, num_hidden_layers=1, num_attention_heads=12,
        num_key_value_heads=2,
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(Qwen2ForCausalLM(config), lora)
    model.save_pretrained(folder)
    (layer,) = (module for name, module in model.named_modules() if name.endswith("q_proj"))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 1536)))
    with torch.no_grad():
        down, up = (half["default"].weight.double() for half in (layer.lora_A, layer.lora_B))
        return np.asarray((x @ down.T @ up.T * layer.scaling["default"]).numpy())


@contextmanager
def _empty_machine(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="helora-hour-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch).resolve()


def measure(place: Path) -> dict[str, Any]:
    """Type all of the page, and say what it took."""
    from importlib.metadata import version

    from helora_harness.machine import machine_facts

    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    adapter = place / "adapter"
    expected = write_adapter(adapter)
    desk = place / "desk"
    desk.mkdir()
    found = []
    with Terminal(desk, variables(place)) as terminal:
        for title, commands in steps(PAGE.read_text(encoding="utf-8")):
            print(f"== {title}", flush=True)
            timed = []
            for command in commands:
                serves = HISTORY if "--serve" in command else ""
                # A copy of the checkout's repository is all that a reader clones; the address is nobody's business.
                seconds, shown = terminal.type(command.replace("ADDRESS", f"file://{ROOT}"), serves=serves)
                print(f"{seconds:8.1f} s  {command}", flush=True)
                if of_helora(command) and widest(shown) > COLUMNS:
                    raise SystemExit(f"{command}: wider than {COLUMNS} columns\n{shown}")
                timed.append({"command": command, "seconds": round(seconds, 1)})
                if command == "cd helora":  # what the reader has already
                    adapter.rename(desk / "helora" / "my-lora")
            found.append({"title": title, "commands": timed})
    delta = np.load(desk / "helora" / "delta.npy")
    bits = -np.log2(np.abs(delta - expected).max() / np.abs(expected).max())
    if not bits >= BITS:
        raise SystemExit(f"Δ agrees with PEFT's to {bits:.1f} bits")
    facts = {"date": date.today().isoformat(), "commit": commit.strip(), "peft": version("peft"), **machine_facts()}
    facts["load"] = f"{os.getloadavg()[2]:.0f}"
    return {**facts, "bits": round(float(bits), 1), "steps": found}


def main() -> None:
    """Measure, or with ``--render`` write the table anew of what was measured."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--render", action="store_true", help="only write the page's table")
    asked.add_argument("--keep", type=Path, help="the empty machine's folder, which stays")
    arguments = asked.parse_args()
    if not arguments.render:
        with _empty_machine(arguments.keep) as place:
            measured = measure(place)
        RESULTS.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + table(json.loads(RESULTS.read_text("utf-8"))) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
