// @ts-check
/** The view of a private conversation: what its worker tells, and what is typed. It has no keys and computes nothing. */

const MOST_SHOWN = 60, MOST_TOKENS = 256;

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const worker = new Worker(new URL("../chat/private-worker.js", import.meta.url), { type: "module" });
const totals = { messages: 0, up: 0, down: 0 };
/** @type {HTMLElement | null} the answer that is being written */
let answering = null;

/** @param {number} bytes */
function size(bytes) {
  const unit = bytes < 1e3 ? 0 : Math.min(3, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** unit).toFixed(unit && bytes / 1000 ** unit < 10 ? 1 : 0)} ${["B", "kB", "MB", "GB"][unit]}`;
}

/** @param {string} text @param {boolean} [fault] */
function say(text, fault = false) {
  at("status").textContent = text;
  at("status").classList.toggle("fault", fault);
}

/** @param {string} role @param {string} text */
function turn(role, text) {
  const item = document.createElement("li");
  item.className = role;
  item.textContent = text;
  at("turns").append(item);
  item.scrollIntoView({ block: "nearest" });
  return item;
}

/** @param {boolean} busy */
function busy(busy) {
  at("send").disabled = at("forget").disabled = busy;
  at("stop").disabled = !busy;
}

/** @param {{ bytes: number, head: Uint8Array }} message */
function sent({ bytes, head }) {
  totals.messages++;
  totals.up += bytes;
  const item = document.createElement("li"), strong = document.createElement("b");
  strong.textContent = `${size(bytes)} `;
  item.append(strong, Array.from(head, (byte) => byte.toString(16).padStart(2, "0")).join(""));
  at("seen").prepend(item);
  if (at("seen").children.length > MOST_SHOWN) at("seen").lastChild.remove();
  show();
}

function show() {
  at("messages").textContent = totals.messages;
  at("up").textContent = size(totals.up);
  at("down").textContent = size(totals.down);
}

const stages = /** @type {Record<string, string>} */ ({
  engine: "Compiling the engine …", offer: "Reading the server's offer …", keys: "Making keys and sending the evaluation keys …",
  "base model": "Loading the base model …", correlations: "Preparing ahead of time …",
}); // prettier-ignore

worker.onmessage = ({ data }) => {
  if (data.stage) {
    say(stages[data.stage] ?? data.stage);
    at("progress").hidden = false;
    if (data.share) at("progress").value = data.share;
    else at("progress").removeAttribute("value");
  } else if (data.ready) {
    const { base, modules, keys, mode, leakage } = data.ready;
    totals.up += keys;
    show();
    say(`Ready: ${base}, ${modules} modules encrypted, mode ${mode}.`);
    at("figures").textContent = `Evaluation keys ${size(keys)}. You, the key holder, learn of the adapter beyond its results: ${leakage.join(", ")}.`;
    at("progress").hidden = at("start").hidden = true;
    at("form").hidden = false;
    at("input").focus();
  } else if (data.text !== undefined) {
    answering ??= turn("assistant", "");
    answering.textContent = data.text;
    answering.scrollIntoView({ block: "nearest" });
  } else if (data.sent) {
    sent(data.sent);
  } else if (data.received) {
    totals.down += data.received.bytes;
    show();
  } else if (data.done) {
    const { tokens, first_ms, token_ms, up, down, stopped } = data.done;
    const rate = token_ms ? `, then ${(1000 / token_ms).toFixed(1)} a second` : "";
    at("figures").textContent = `${tokens} tokens${stopped ? ", stopped" : ""}: the first after ${(first_ms / 1000).toFixed(1)} s${rate}; ${size(up)} up, ${size(down)} down.`;
    say("Ready.");
    answering = null;
    busy(false);
    at("input").focus();
  } else if (data.failed) {
    say(data.failed.message, true);
    if (at("form").hidden) at("load").disabled = false;
    else (answering ?? turn("assistant", "")).classList.add("fault");
    answering = null;
    at("progress").hidden = true;
    busy(false);
  }
};

/** Its files could not be loaded, or it has a fault that it did not catch. */
let broken = "";
worker.onerror = ({ message }) => {
  broken = message ? `The page has a fault: ${message}` : "The server does not answer. Load the page again.";
  say(broken, true);
};

at("load").onclick = () => {
  if (broken) return say(broken, true);
  at("load").disabled = true;
  const here = new URL("./", location.href).href;
  worker.postMessage({ open: { server: here, base: new URL("base/", here).href, token: at("token").value, ahead: Number(at("ahead").value) } });
};
at("form").onsubmit = (/** @type {Event} */ event) => {
  event.preventDefault();
  const text = at("input").value.trim();
  if (!text || at("send").disabled) return;
  at("input").value = "";
  turn("user", text);
  busy(true);
  say("Answering …");
  worker.postMessage({ say: text, most: MOST_TOKENS });
};
at("input").onkeydown = (/** @type {KeyboardEvent} */ event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    at("form").requestSubmit();
  }
};
at("stop").onclick = () => worker.postMessage({ stop: true });
at("forget").onclick = () => {
  worker.postMessage({ forget: true });
  at("turns").replaceChildren();
};

const manifest = await fetch("base/manifest.json").then((answer) => (answer.ok ? answer.json() : null), () => null); // prettier-ignore
if (manifest) at("size").textContent = `(${size(manifest.bytes)})`;
else say("This server has no base model for browsers.", true);
