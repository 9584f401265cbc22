// @ts-check
/** The view of a split conversation: beside it, what the server can tell of it from the bytes that it gets. */

import { at, begin, element } from "./view.js";

/** What was sent and is not read yet, the oldest first. @type {HTMLElement[]} */
let unread = [];

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
    adapter: at("adapted").checked ? undefined : null,
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
