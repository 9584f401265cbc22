// @ts-check
/**
 * A private client: base model, keys and conversation in this worker, ciphertexts and nothing else to the server.
 *
 * Messages in: {open: {server, base, token?, adapter?, ahead?}}, {say: text, most}, {stop: true}, {forget: true}.
 * Messages out: {stage, share}, {ready}, {text, tokens}, {sent: {bytes, head}}, {received: {bytes}}, {done}, {failed}.
 */

import { Client } from "../client.js";
import { loadEngine } from "../engine.js";
import { Link } from "../link.js";
import { Model } from "../model/model.js";
import { Kept, pieces } from "../model/pieces.js";
import { Conversation } from "./conversation.js";
import { answer } from "./generate.js";

const SHOWN_BYTES = 48,
  AHEAD = ".ahead";

export class Private {
  /**
   * @param {(message: any) => void} tell
   * @param {{ positions?: number, kept?: Kept | null, patienceMs?: number }} [options]
   */
  constructor(tell, { positions = 1024, kept = null, patienceMs } = {}) {
    this.tell = tell;
    this.options = { positions, kept, patienceMs };
    /** @type {number[]} */
    this.cached = [];
    /** @type {AbortController | null} */
    this.running = null;
    this.bytes = { up: 0, down: 0, requests: 0 };
  }

  /**
   * Load the engine and the base model, make keys, open a session.
   * @param {{ server: string, base: string, token?: string, adapter?: string, ahead?: number }} where `ahead`: tokens
   *   to
   * prepare for, so that Δ takes no encryption when it is asked for
   */
  async open({ server, base, token, adapter, ahead = 0 }) {
    const stage = (/** @type {string} */ name, share = 0) => this.tell({ stage: name, share });
    stage("engine");
    this.engine = await loadEngine();
    stage("offer");
    this.link = await Link.connect(server, {
      token,
      patienceMs: this.options.patienceMs,
      watch: { ask: (_, message) => this.#sent(message), answer: (_, bytes) => this.#received(bytes) },
    });
    stage("keys");
    this.client = await Client.make(this.engine, this.link.delta);
    await this.link.open(this.client.evaluationKeys);
    this.names = namesOf(this.client.modules, adapter, ahead > 0);
    this.ahead = ahead;
    stage("base model");
    const get = async (/** @type {string} */ name) => {
      const found = await fetch(new URL(name, base));
      if (!found.ok) throw new Error(`The base model's ${name} could not be loaded (${found.status}).`);
      return found;
    };
    this.manifest = await (await get("manifest.json")).json();
    const kernels = await WebAssembly.compile(
      await (await fetch(new URL("../model/kernels.wasm", import.meta.url))).arrayBuffer(),
    );
    const { positions, kept } = this.options;
    this.model = await Model.load(this.manifest, kernels, pieces(base, this.manifest.pieces, kept), {
      positions,
      progress: (share) => stage("base model", share),
    });
    await kept?.keep(this.manifest.pieces);
    const [tokenizer, config] = await Promise.all([get(this.manifest.tokenizer), get(this.manifest.tokenizer_config)]);
    this.conversation = new Conversation(this.manifest, await tokenizer.json(), await config.json());
    if (ahead) {
      const groups = this.model.groups(new Set(this.names.keys()));
      for (const [number, group] of groups.entries()) {
        stage("correlations", number / groups.length);
        await this.#prepare(group);
      }
    }
    const leakage = [...new Set(this.link.offer.plans.map((/** @type {any} */ plan) => plan.leakage))];
    this.tell({
      ready: {
        build: this.engine.build,
        modules: this.names.size,
        keys: this.client.evaluationKeys.length,
        mode: this.link.welcome.get("mode"),
        base: this.manifest.name,
        leakage,
      },
    });
  }

  /** Answer a turn. @param {string} text @param {number} most tokens @returns {Promise<string>} */
  async say(text, most) {
    const { model, manifest, conversation } = /** @type {any} */ (this);
    const running = (this.running = new AbortController()),
      start = performance.now(),
      before = { ...this.bytes };
    conversation.turns.push({ role: "user", content: text });
    const prompt = conversation.prompt(),
      tokens = [],
      room = model.positions - prompt.length;
    let shown = "",
      first = 0;
    try {
      if (room < 1)
        throw new Error(
          `The conversation has ${prompt.length} tokens, and ${model.positions} are the most: begin a new one.`,
        );
      const how = {
        ends: manifest.ends,
        most: Math.min(most, room),
        adapted: new Set(this.names?.keys()),
        ask: this.#delta.bind(this),
        signal: running.signal,
      };
      for await (const token of answer(model, this.cached, prompt, how)) {
        tokens.push(token);
        first ||= performance.now() - start;
        shown = conversation.text(tokens);
        this.tell({ text: shown, tokens: tokens.length });
      }
    } catch (error) {
      conversation.turns.pop();
      throw error;
    } finally {
      this.running = null;
    }
    conversation.turns.push({ role: "assistant", content: shown });
    const ms = performance.now() - start,
      rest = tokens.length > 1 ? (ms - first) / (tokens.length - 1) : 0;
    this.tell({
      done: {
        prompt: prompt.length,
        tokens: tokens.length,
        first_ms: first,
        token_ms: rest,
        stopped: running.signal.aborted,
        up: this.bytes.up - before.up,
        down: this.bytes.down - before.down,
        requests: this.bytes.requests - before.requests,
      },
      ids: tokens,
    });
    return shown;
  }

  /** End the answer after its present token. */
  stop() {
    this.running?.abort();
  }

  /** Begin another conversation. */
  forget() {
    if (this.conversation) this.conversation.turns = [];
    this.model?.reset();
    this.cached.length = 0;
  }

  /** Clear the keys, and end the session. */
  close() {
    this.client?.wipe();
    this.link?.close();
  }

  /** @param {string[]} names @param {Float32Array} x @param {number} tokens */
  async #delta(names, x, tokens) {
    const { client, link } = /** @type {any} */ (this),
      found = Object.create(null);
    const offered = this.#offered(names),
      numbers = Float64Array.from(x);
    const request = await client.begin(offered, numbers, tokens).catch(async (/** @type {any} */ error) => {
      if (error.code !== "pool-empty") throw error;
      await this.#prepare(names);
      return client.begin(offered, numbers, tokens);
    });
    while (!request.done) await request.receive(await link.ask(request.message));
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

/** Run in a worker. @param {any} scope the worker's `self` */
export function serve(scope) {
  /** @type {Private | undefined} */
  let own;
  /** One thing at a time, in the order in which they are asked for. @type {Promise<void>} */
  let queue = Promise.resolve();
  scope.onmessage = (/** @type {MessageEvent} */ { data }) => {
    if (data.stop) return own?.stop();
    queue = queue.then(async () => {
      try {
        if (data.open) {
          own = new Private((message) => scope.postMessage(message), {
            kept: await Kept.open().catch(() => null),
            ...data.open,
          });
          await own.open(data.open);
        } else if (data.forget) own?.forget();
        else if (data.say !== undefined) await own?.say(data.say, data.most ?? 200);
      } catch (error) {
        // A request that nobody answered is a TypeError whose words depend on the browser.
        const message =
          error instanceof TypeError ? "The server does not answer." : /** @type {Error} */ (error).message;
        scope.postMessage({ failed: { message, code: /** @type {any} */ (error).code ?? "" } });
      }
    });
  };
}
