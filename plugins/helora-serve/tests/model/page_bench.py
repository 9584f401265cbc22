"""How fast a page answers, in headless Chromium: ``python page_bench.py http://127.0.0.1:7460/``, or ``…/split``.

Start ``helora serve … --page DIR``, or ``--split DIR``, on an idle machine first. Of the private page, ``--ahead``
prepares for so many tokens; a batch has N of them whatever is asked for. Prints JSON: milliseconds until each stage was
over, of a first visit and of one that finds in the browser's store what the first kept, then of the answer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
from tests.harness.history import chromium

RUN = """(async ({kind, options, text, most}) => {
  const {Private, Split} = await import(`/web/chat/${kind}.js`), {Kept} = await import('/web/model/pieces.js');
  const here = new URL('./', location.href).href;
  const opened = async () => {
    const stages = {}, told = [], start = performance.now();
    let stage = '', since = start;
    const over = name => {
      if (stage) stages[stage] = performance.now() - since;
      stage = name;
      since = performance.now();
    };
    const own = new (Private ?? Split)(message => {
      if (message.stage && message.stage !== stage) over(message.stage);
      else if (!message.stage && !message.sent && !message.received) told.push(message);
    }, {positions: 512, kept: await Kept.open('bench')});
    await own.open({server: here, base: new URL(Private ? 'base/' : 'ends/', here).href, ...options});
    over('');
    return {own, stages, told, ms: performance.now() - start};
  };
  const first = await opened();
  first.own.close();
  const {own, stages, told, ms} = await opened();
  const prepared = {...own.bytes}, said = await own.say(text, most);
  await own.eavesdropper?.idle;
  const model = own.model ?? own.ends, of = name => told.findLast(message => message[name])?.[name];
  let head_ms = null;
  if (Split) {
    const state = new Float32Array(model.of.hidden).fill(1), start = performance.now();
    for (let i = 0; i < 20; i++) model.logits(state);
    head_ms = (performance.now() - start) / 20;
  }
  return {first: {ms: first.ms, stages: first.stages}, again: {ms, stages}, prepared, text: said,
          answer: of('done'), recovered: of('recovered') ?? null, ready: of('ready'), head_ms,
          memory: model.memory.buffer.byteLength};
})(%s)"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="the page's")
    parser.add_argument("--ahead", type=int, default=0, help="tokens to prepare for, on the private page")
    parser.add_argument("--http", action="store_true", help="no WebSocket, on the split page")
    parser.add_argument("--base", action="store_true", help="without the adapter, on the split page")
    parser.add_argument("--tokens", type=int, default=60, help="of the answer, at most")
    parser.add_argument("--say", default="Tell me about the history of Rome in a few sentences.", help="the prompt")
    asked = parser.parse_args()
    kind = "split" if asked.address.rstrip("/").endswith("/split") else "private"
    options = {"ahead": asked.ahead, "keep": True} if kind == "private" else {"sockets": not asked.http}
    if asked.base:
        options["adapter"] = None
    job = {"kind": kind, "options": options, "text": asked.say, "most": asked.tokens}
    chromium.PATIENCE = 1800.0
    program = chromium.find_chromium()
    if program is None:
        sys.exit("There is no Chromium: install it, or name it in HELORA_CHROMIUM.")
    with tempfile.TemporaryDirectory() as folder, chromium.Chromium(program, Path(folder)) as browser:
        browser.call("Network.disable")
        browser.open(asked.address)
        browser.wait("document.getElementById('size').textContent !== ''")
        found = browser.evaluate(RUN % json.dumps(job))
    print(json.dumps({"load": os.getloadavg(), **found}, indent=2))


if __name__ == "__main__":
    main()
