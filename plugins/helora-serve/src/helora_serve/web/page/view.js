// @ts-check
/** What pages with a conversation show, whatever their worker does: it has no model and no keys, and computes nothing. */

const MOST_SHOWN = 60,
  MOST_TOKENS = 256;

/** @param {string} id @returns {any} */
export const at = (id) => document.getElementById(id);

/** @param {number} bytes */
export function size(bytes) {
  const unit = bytes < 1e3 ? 0 : Math.min(3, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** unit).toFixed(unit && bytes / 1000 ** unit < 10 ? 1 : 0)} ${["B", "kB", "MB", "GB"][unit]}`;
}

/** @param {string} text @param {boolean} [fault] */
export function say(text, fault = false) {
  at("status").textContent = text;
  at("status").classList.toggle("fault", fault);
}

/** @param {string} name of an element @param {string} text @param {string} [kind] its class */
export function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

/**
 * @typedef {object} Page
 * @property {Worker} worker runs a `Talk`
 * @property {string} manifest the address of what is loaded
 * @property {string} none said if it is not there
 * @property {Record<string, string>} stages what is said while it loads
 * @property {(here: string) => object} opening what the worker is told to open
 * @property {(ready: any) => string} ready what is said when all is loaded
 * @property {(sent: any) => (string | Node)[]} sent what is shown of a message
 * @property {(data: any) => void} [other] takes messages of its own kind
 * @property {() => void} [forgotten] another conversation begins
 */

/** Begin. @param {Page} page */
export async function begin({ worker, manifest, none, stages, opening, ready, sent, other, forgotten }) {
  const totals = { messages: 0, up: 0, down: 0 };
  /** @type {HTMLElement | null} the answer that is being written */
  let answering = null;
  /** Its files could not be loaded, or it has a fault that it did not catch. */
  let broken = "";

  const turn = (/** @type {string} */ role, /** @type {string} */ text) => {
    const item = element("li", text, role);
    at("turns").append(item);
    item.scrollIntoView({ block: "nearest" });
    return item;
  };
  const busy = (/** @type {boolean} */ busy) => {
    at("send").disabled = at("forget").disabled = busy;
    at("stop").disabled = !busy;
  };
  const show = () => {
    at("messages").textContent = totals.messages;
    at("up").textContent = size(totals.up);
    at("down").textContent = size(totals.down);
  };

  worker.onmessage = ({ data }) => {
    if (data.stage) {
      say(stages[data.stage] ?? data.stage);
      at("progress").hidden = false;
      if (data.share) at("progress").value = data.share;
      else at("progress").removeAttribute("value");
    } else if (data.ready) {
      totals.up += data.ready.keys ?? 0;
      show();
      say(ready(data.ready));
      at("progress").hidden = at("start").hidden = true;
      at("form").hidden = false;
      at("input").focus();
    } else if (data.waiting) {
      say(data.waiting);
    } else if (data.text !== undefined) {
      if (!answering) say("Answering …");
      answering ??= turn("assistant", "");
      answering.textContent = data.text;
      answering.scrollIntoView({ block: "nearest" });
    } else if (data.sent) {
      totals.messages++;
      totals.up += data.sent.bytes;
      const item = document.createElement("li");
      item.append(element("b", `${size(data.sent.bytes)} `), ...sent(data.sent));
      at("seen").prepend(item);
      if (at("seen").children.length > MOST_SHOWN) at("seen").lastChild.remove();
      show();
    } else if (data.received) {
      totals.down += data.received.bytes;
      show();
    } else if (data.done) {
      const { tokens, first_ms, token_ms, up, down, stopped } = data.done;
      const rate = token_ms ? `, then ${(1000 / token_ms).toFixed(1)} a second` : "";
      at("figures").textContent =
        `${tokens} tokens${stopped ? ", stopped" : ""}: the first after ${(first_ms / 1000).toFixed(1)} s${rate}; ${size(up)} up, ${size(down)} down.`;
      say("Ready.");
      answering = null;
      busy(false);
      at("input").focus();
    } else if (data.erased) {
      location.reload();
    } else if (data.failed) {
      say(data.failed.message, true);
      if (at("form").hidden) at("load").disabled = false;
      else (answering ?? turn("assistant", "No answer.")).classList.add("fault");
      answering = null;
      at("progress").hidden = true;
      busy(false);
    } else other?.(data);
  };
  worker.onerror = ({ message }) => {
    broken = message ? `The page has a fault: ${message}` : "The server does not answer. Load the page again.";
    say(broken, true);
    at("load").disabled = false;
  };

  at("load").onclick = () => {
    if (broken) return say(broken, true);
    at("load").disabled = true;
    void navigator.storage?.persist?.(); // so that the browser does not make room at the cost of what is kept
    worker.postMessage({ open: opening(new URL("./", location.href).href) });
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
    forgotten?.();
  };
  for (const button of document.querySelectorAll(".erase"))
    button.addEventListener("click", () => worker.postMessage({ erase: true }));

  const found = await fetch(manifest).then(
    (answer) => (answer.ok ? answer.json() : null),
    () => null,
  );
  if (found) at("size").textContent = `(${size(found.bytes)})`;
  else say(none, true);
}
