// @ts-check
/** The view of a split conversation: beside it, what the server can tell of it from the bytes that it gets. */

import { at, begin, element } from "./view.js";

/** What was sent and is not read yet, the oldest first. @type {HTMLElement[]} */
let unread = [];

/** Values of the choice: the server's first adapter, none, or this and an adapter's name. */
const FIRST = "first",
  NONE = "none",
  NAMED = "adapter:";

/** Show what the server offers, as far as it says so to whoever has this token. */
async function offered() {
  const token = at("token").value,
    headers = token ? { authorization: `Bearer ${token}` } : /** @type {Record<string, string>} */ ({}),
    answer = await fetch("v1/split/offer", { headers, cache: "no-store" }).catch(() => null),
    offer = answer?.ok ? await answer.json().catch(() => null) : null,
    choice = at("adapter"),
    before = choice.value;
  if (offer) {
    const { base, adapters, most_positions } = offer;
    at("offered").textContent =
      `The server runs ${base.name}: ${base.layers} layers, up to ${most_positions} tokens of a conversation, ${adapters.length || "no"} adapter${adapters.length === 1 ? "" : "s"}.`;
    choice.replaceChildren(
      ...adapters.map((/** @type {string} */ name) => new Option(name, NAMED + name)),
      new Option("none: the base model alone", NONE),
    );
    if ([...choice.options].some(({ value }) => value === before)) choice.value = before;
  } else if (answer?.status === 401)
    at("offered").textContent =
      "The server asks for an access token, under Settings, before it says which adapters it has.";
}

/** The adapter that is chosen, as `Split` takes it. @returns {string | null | undefined} */
function chosen() {
  const { value } = at("adapter");
  return value === FIRST ? undefined : value === NONE ? null : value.slice(NAMED.length);
}

at("token").onchange = offered;
void offered();

await begin({
  worker: new Worker(new URL("../chat/split-worker.js", import.meta.url), { type: "module" }),
  manifest: "ends/manifest.json",
  none: "This server has no split mode: it does not run a model's layers for others. Its owner starts it with --split.",
  stages: {
    offer: "Reading the server's offer …",
    ends: "Loading the embedding and the head …",
    session: "Opening a session …",
  },
  opening: (here) => ({
    server: here,
    base: new URL("ends/", here).href,
    token: at("token").value,
    adapter: chosen(),
    sockets: !at("plain").checked,
    temperature: Number(at("temperature").value),
  }),
  ready: ({ base, adapter, mode, encrypted, way }) => {
    at("figures").textContent =
      `Over ${way === "http" ? "plain requests" : "a WebSocket"}.${encrypted ? " The server computes the adapter encrypted, with keys of its own: that hides nothing from it." : ""}`;
    return `Ready: ${base}${adapter === null ? "" : `, adapter ${adapter}`}, mode ${mode}.`;
  },
  sent: () => {
    const words = element("span", "…");
    unread.push(words);
    return [words];
  },
  other: ({ recovered }) => {
    if (!recovered) return;
    const { text, words, count, right, of } = recovered,
      item = unread.shift();
    if (item) item.textContent = count > 1 ? `${count} hidden states` : JSON.stringify(words);
    at("recovered").textContent = text;
    at("recovered").scrollTop = at("recovered").scrollHeight;
    at("right").textContent = `${right} of ${of}`;
  },
  forgotten: () => {
    unread = [];
    at("recovered").textContent = "";
    at("right").textContent = "0 of 0";
  },
});
