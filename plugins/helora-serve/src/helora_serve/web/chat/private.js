// @ts-check
/** A private client: base model, keys and conversation in this worker, ciphertexts and nothing else to the server. */

import { Client } from "../client.js";
import { deleteDatabase } from "../database.js";
import { loadEngine } from "../engine.js";
import { Keeping } from "../keeping.js";
import { Link } from "../link.js";
import { Model } from "../model/model.js";
import { RESERVED } from "../pools.js";
import { Talk } from "./talk.js";

const SHOWN_BYTES = 48,
  AHEAD = ".ahead";
/** Another batch is made at the beginning if fewer than one in so many of the tokens asked for are left. */
const WORTH = 4;
const FULL = "The browser's storage is full: not everything is kept for the next visit.";

export class Private extends Talk {
  /**
   * @param {(message: any) => void} tell
   * @param {import("./talk.js").Options & { positions?: number }} [options]
   */
  constructor(tell, { positions = 1024, ...options } = {}) {
    super(tell, options);
    this.room = positions;
  }

  /**
   * Load the engine and the base model, make keys, open a session.
   * @param {{ server: string, base: string, token?: string, adapter?: string, ahead?: number, keep?: boolean }} where
   *   `ahead`: tokens to prepare for, so that Δ takes no encryption when it is asked for. `keep`: whether keys and what
   *   was prepared are there again at the next visit
   */
  async open(where) {
    try {
      await this.#open(where);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @param {Parameters<Private["open"]>[0]} where */
  async #open({ server, base, token, adapter, ahead = 0, keep = false }) {
    this.stage("engine");
    this.engine = await loadEngine();
    this.stage("offer");
    this.link = await Link.connect(server, {
      token,
      patienceMs: this.options.patienceMs,
      watch: { ask: (_, message) => this.#sent(message), answer: (_, bytes) => this.#received(bytes) },
    });
    this.stage("keys");
    const { client, keys, restored } = await this.#keys(keep, new URL(server).href);
    this.client = client;
    await this.link.open(keys);
    this.names = namesOf(this.client.modules, adapter, ahead > 0);
    this.ahead = ahead;
    const model = (this.model = await this.loaded(base, "base model", (manifest, kernels, piece, progress) =>
      Model.load(manifest, kernels, piece, { positions: this.room, progress }),
    ));
    if (ahead) {
      const groups = model.groups(new Set(this.names.keys()));
      for (const [number, group] of groups.entries()) {
        this.stage("correlations", number / groups.length);
        if (WORTH * (await client.left(this.#offered(group))) < ahead) await this.#prepare(group);
      }
    }
    const leakage = [...new Set(this.link.offer.plans.map((/** @type {any} */ plan) => plan.leakage))];
    this.tell({
      ready: {
        build: this.engine.build,
        modules: this.names.size,
        keys: keys.length,
        restored,
        keeping: this.refused || (this.keeping?.full ? FULL : ""),
        mode: this.link.welcome.get("mode"),
        base: model.of.name,
        leakage,
      },
    });
  }

  /** Keys as they were kept, or new ones. @param {boolean} keep @param {string} server */
  async #keys(keep, server) {
    const { engine, link } = /** @type {{ engine: import("../engine.js").Engine, link: Link }} */ (
      /** @type {any} */ (this)
    );
    if (keep)
      try {
        this.keeping = await Keeping.open(server);
        return await this.keeping.client(engine, link.delta);
      } catch (error) {
        const { code, message } = /** @type {any} */ (error);
        if (code === "in-use") throw error;
        this.refused = `Nothing is kept for the next visit. ${message}`;
        this.keeping?.close();
        this.keeping = undefined;
      }
    const client = await Client.make(engine, link.delta);
    return { client, keys: client.evaluationKeys, restored: false };
  }

  get positions() {
    return this.model?.positions ?? 0;
  }

  /** @param {number} length */
  rewind(length) {
    this.model?.rewind(length);
  }

  /** @param {number[]} tokens */
  forward(tokens) {
    return /** @type {Model} */ (this.model).forward(tokens, new Set(this.names?.keys()), this.#delta.bind(this));
  }

  choose() {
    return /** @type {Model} */ (this.model).greatest();
  }

  /** Clear the keys in memory, and end the session. */
  close() {
    this.client?.wipe();
    this.link?.close();
    this.keeping?.close();
  }

  async erase() {
    await super.erase();
    await deleteDatabase();
  }

  /** @param {string[]} names @param {Float32Array} x @param {number} tokens */
  async #delta(names, x, tokens) {
    const { client, link } = /** @type {any} */ (this),
      found = Object.create(null);
    const offered = this.#offered(names),
      numbers = Float64Array.from(x);
    let request;
    for (let refused = 0; !request?.done; )
      try {
        request = await client.begin(offered, numbers, tokens);
        while (!request.done) await request.receive(await link.ask(request.message));
      } catch (error) {
        const { code } = /** @type {any} */ (error);
        // A server that was started again takes those for used that it had reserved, and may have none any more.
        if (code === "correlation-used" && ++refused > RESERVED) await client.discard(offered);
        else if (code === "pool-empty") await this.#prepare(names);
        else if (code !== "correlation-used") throw error;
      }
    names.forEach((name, i) => (found[name] = Float32Array.from(request.deltas.get(offered[i]))));
    return found;
  }

  /** What the server calls modules. @param {string[]} names */
  #offered(names) {
    return names.map((name) => this.names?.get(name) ?? name);
  }

  /** Make correlations for modules of one input. @param {string[]} names */
  async #prepare(names) {
    const { client, link, ahead } = /** @type {any} */ (this);
    const preparation = await client.prepare(this.#offered(names), ahead);
    while (!preparation.done) await preparation.receive(await link.ask(preparation.message));
  }

  /** @param {Uint8Array} message */
  #sent(message) {
    this.bytes.up += message.length;
    this.bytes.requests++;
    // From the middle, where ciphertexts are: what stands at the beginning is the same in all of them.
    const middle = message.length >> 1;
    this.tell({ sent: { bytes: message.length, head: message.slice(middle, middle + SHOWN_BYTES) } });
  }

  /** @param {number} bytes */
  #received(bytes) {
    this.bytes.down += bytes;
    this.tell({ received: { bytes } });
  }
}

/**
 * Names in the model, and what the server calls them: `adapter/name`, or the name itself if there is one adapter. Plans
 * that run ahead of time go by the adapter's name and `.ahead`.
 * @param {string[]} modules @param {string} [adapter] @param {boolean} [ahead]
 */
export function namesOf(modules, adapter, ahead = false) {
  const adapterOf = (/** @type {string} */ module) => module.slice(0, Math.max(0, module.lastIndexOf("/")));
  const adapters = [...new Set(modules.map(adapterOf))];
  const plain = adapters.filter((name) => !name.endsWith(AHEAD)),
    chosen = adapter ?? plain[0] ?? adapters[0]?.slice(0, -AHEAD.length);
  const wanted = ahead ? `${chosen || "default"}${AHEAD}` : chosen;
  if (!adapters.includes(wanted))
    throw new Error(
      ahead
        ? `The server has no plans of adapter ${chosen || "default"} that run ahead of time.`
        : `The server has no adapter ${chosen} that runs online; it has ${adapters.join(", ")}.`,
    );
  const prefix = wanted ? `${wanted}/` : "";
  return new Map(
    modules.filter((module) => adapterOf(module) === wanted).map((module) => [module.slice(prefix.length), module]),
  );
}
