"""How fast the private page answers, in headless Chromium: ``python page_bench.py http://127.0.0.1:7460/``.

Start ``helora serve … --page DIR`` on an idle machine first. ``--ahead`` prepares for so many tokens; a batch has N of
them whatever is asked for. Prints JSON: milliseconds until each stage was over, then of the answer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
from tests.harness.history import chromium

RUN = """(async () => {
  const {Private} = await import('/web/chat/private.js');
  const stages = {}, told = [], start = performance.now();
  let stage = '', since = start;
  const over = name => {
    if (stage) stages[stage] = performance.now() - since;
    stage = name;
    since = performance.now();
  };
  const own = new Private(message => {
    if (message.stage && message.stage !== stage) over(message.stage);
    else if (!message.stage && !message.sent && !message.received) told.push(message);
  }, {positions: 512});
  await own.open({server: location.href, base: new URL('base/', location.href).href, ahead: %d});
  over('');
  const prepared = {...own.bytes}, text = await own.say(%s, %d);
  return {stages, prepared, text, answer: told.find(message => message.done).done,
          ready: told.find(message => message.ready).ready, memory: own.model.memory.buffer.byteLength};
})()"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="the server's")
    parser.add_argument("--ahead", type=int, default=0, help="tokens to prepare for")
    parser.add_argument("--tokens", type=int, default=60, help="of the answer, at most")
    parser.add_argument("--say", default="Tell me about the history of Rome in a few sentences.", help="the prompt")
    asked = parser.parse_args()
    chromium.PATIENCE = 1800.0
    program = chromium.find_chromium()
    if program is None:
        sys.exit("There is no Chromium: install it, or name it in HELORA_CHROMIUM.")
    with tempfile.TemporaryDirectory() as folder, chromium.Chromium(program, Path(folder)) as browser:
        browser.call("Network.disable")
        browser.open(asked.address)
        browser.wait("document.getElementById('size').textContent !== ''")
        print(json.dumps(browser.evaluate(RUN % (asked.ahead, json.dumps(asked.say), asked.tokens)), indent=2))


if __name__ == "__main__":
    main()
