// @ts-check
/**
 * What the private page and the split page have in common, in a worker: a conversation, and answers to its turns.
 *
 * Messages in: {open: {…}}, {say: text, most}, {stop: true}, {forget: true}, {erase: true}. Messages out: {stage, share}, {ready},
 * {text, tokens}, {sent}, {received: {bytes}}, {done, ids}, {failed}, {erased}, and what a kind of its own tells.
 */

import { Kept, pieces } from "../model/pieces.js";
import { Conversation } from "./conversation.js";
import { answer } from "./generate.js";

/** @typedef {import("../model/weights.js").Manifest} Manifest */
/** @typedef {{ kept?: Kept | null, patienceMs?: number, [more: string]: any }} Options */

export class Talk {
  /** @param {(message: any) => void} tell @param {Options} options */
  constructor(tell, options) {
    this.tell = tell;
    this.options = options;
    /** The tokens that the model's cache holds. @type {number[]} */
    this.cached = [];
    /** @type {AbortController | null} */
    this.running = null;
    this.bytes = { up: 0, down: 0, requests: 0 };
    /** @type {Manifest | undefined} */
    this.manifest = undefined;
    /** @type {Conversation | undefined} */
    this.conversation = undefined;
  }

  // What each kind does by itself.

  /** Most tokens of a conversation. @returns {number} */
  get positions() {
    throw new Error("not implemented");
  }
  /** Forget tokens from a position on. @param {number} _length */
  rewind(_length) {
    throw new Error("not implemented");
  }
  /** Run tokens after those in the cache. @param {number[]} _tokens @returns {Promise<unknown>} */
  forward(_tokens) {
    throw new Error("not implemented");
  }
  /** The token that follows. @returns {number} */
  choose() {
    throw new Error("not implemented");
  }

  /** @param {string} name @param {number} [share] of it that is done */
  stage(name, share = 0) {
    this.tell({ stage: name, share });
  }

  /** Answer a turn. @param {string} text @param {number} most tokens @returns {Promise<string>} */
  async say(text, most) {
    const { manifest, conversation } = this;
    if (!manifest || !conversation) throw new Error("Nothing is loaded yet.");
    const running = (this.running = new AbortController()),
      start = performance.now(),
      before = { ...this.bytes };
    conversation.turns.push({ role: "user", content: text });
    const prompt = conversation.prompt(),
      tokens = [],
      room = this.positions - prompt.length;
    let shown = "",
      first = 0;
    try {
      if (room < 1)
        throw new Error(
          `The conversation has ${prompt.length} tokens, and ${this.positions} are the most: begin a new one.`,
        );
      for await (const token of answer(this, this.cached, prompt, {
        ends: manifest.ends,
        most: Math.min(most, room),
        signal: running.signal,
      })) {
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
    this.rewind(0);
    this.cached.length = 0;
  }

  /** End what is open. */
  close() {}

  /** Delete all that this browser keeps for the page. */
  async erase() {
    this.close();
    await this.options.kept?.erase();
  }

  /**
   * Load a base model, or a part of one.
   * @template T
   * @param {string} base the address of its folder @param {string} stage what loading it is called
   * @param {(manifest: Manifest, kernels: WebAssembly.Module, piece: import("../model/weights.js").Piece, progress: (share: number) => void) => Promise<T>} load
   * @returns {Promise<T>}
   */
  async loaded(base, stage, load) {
    this.stage(stage);
    const get = async (/** @type {string} */ name) => {
      const found = await fetch(new URL(name, base));
      if (!found.ok) throw new Error(`The base model's ${name} could not be loaded (${found.status}).`);
      return found;
    };
    const manifest = (this.manifest = /** @type {Manifest} */ (await (await get("manifest.json")).json())),
      { kept = null } = this.options;
    const kernels = await WebAssembly.compile(
      await (await fetch(new URL("../model/kernels.wasm", import.meta.url))).arrayBuffer(),
    );
    const model = await load(manifest, kernels, pieces(base, manifest.pieces, kept), (share) =>
      this.stage(stage, share),
    );
    await kept?.keep(manifest.pieces);
    const [tokenizer, config] = await Promise.all([get(manifest.tokenizer), get(manifest.tokenizer_config)]);
    this.conversation = new Conversation(manifest, await tokenizer.json(), await config.json());
    return model;
  }
}

/**
 * Run in a worker.
 * @param {any} scope the worker's `self`
 * @param {new (tell: (message: any) => void, options: Options) => Talk & { open(where: any): Promise<void> }} Kind
 * @param {string} database where its pieces are kept
 */
export function serve(scope, Kind, database) {
  /** @type {InstanceType<typeof Kind> | undefined} */
  let own;
  /** One thing at a time, in the order in which they are asked for. @type {Promise<void>} */
  let queue = Promise.resolve();
  scope.onmessage = (/** @type {MessageEvent} */ { data }) => {
    if (data.stop) return own?.stop();
    queue = queue.then(async () => {
      try {
        if (data.open) {
          own?.close();
          own = new Kind((message) => scope.postMessage(message), {
            kept: await Kept.open(database).catch(() => null),
            ...data.open,
          });
          await own.open(data.open);
        } else if (data.erase) {
          own ??= new Kind(scope.postMessage.bind(scope), { kept: await Kept.open(database).catch(() => null) });
          await own.erase();
          scope.postMessage({ erased: true });
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
