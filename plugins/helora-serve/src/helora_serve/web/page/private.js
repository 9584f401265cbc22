// @ts-check
/** The view of a private conversation. */

import { at, begin, size } from "./view.js";

await begin({
  worker: new Worker(new URL("../chat/private-worker.js", import.meta.url), { type: "module" }),
  manifest: "base/manifest.json",
  none: "This server has no base model for browsers.",
  stages: {
    engine: "Compiling the engine …",
    offer: "Reading the server's offer …",
    keys: "Making keys and sending the evaluation keys …",
    "base model": "Loading the base model …",
    correlations: "Preparing ahead of time …",
  },
  opening: (here) => ({
    server: here,
    base: new URL("base/", here).href,
    token: at("token").value,
    ahead: Number(at("ahead").value),
    keep: at("keep").checked,
  }),
  ready: ({ base, modules, keys, mode, leakage, keeping }) => {
    at("keeping").textContent = keeping;
    at("figures").textContent =
      `Evaluation keys ${size(keys)}. You, the key holder, learn of the adapter beyond its results: ${leakage.join(", ")}.`;
    return `Ready: ${base}, ${modules} modules encrypted, mode ${mode}.`;
  },
  sent: ({ head }) => [
    Array.from(/** @type {Uint8Array} */ (head), (byte) => byte.toString(16).padStart(2, "0")).join(""),
  ],
});
