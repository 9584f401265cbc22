// @ts-check
/**
 * A session at a server that runs a model's layers, over `helora.split.v1`. It goes on over sockets that are lost, and
 * over plain requests where there are no sockets.
 *
 *     const link = await SplitLink.connect("https://host/");
 *     await link.open(base, null, "float32");
 *     const states = await link.forward(rows, 0, true);
 */

import { fromBytes, toBytes } from "../floats.js";
import { frame } from "../frames.js";
import { EngineError } from "../wasm.js";
import { Requests, Socket, refusal } from "./split-transports.js";

/** @typedef {import("../floats.js").DType} DType */
/** @typedef {[Map<string, any>, Uint8Array]} Frame */
/** @typedef {{ sent: (frame: Uint8Array) => void, received: (frame: Uint8Array) => void, waiting: (why: string) => void }} Watch */

const FORMAT = "helora-split-offer",
  SCHEMA = 1;
const FIRST_PAUSE_MS = 100,
  LONGEST_PAUSE_MS = 3000,
  MOST_LOSSES = 5;

/** The server's cache ends before what is asked for: go on from where it ends. */
export class CacheLost extends Error {
  /** @param {number} position where it ends */
  constructor(position) {
    super(`The server's cache ends at position ${position}.`);
    this.position = position;
  }
}

export class SplitLink {
  /**
   * Read a server's offer.
   * @param {string | URL} base the server's address
   * @param {{ token?: string, patienceMs?: number, silenceMs?: number, sockets?: boolean, watch?: Partial<Watch> }} [options] how
   * long a lost connection is tried again, how long an answer may take; whether sockets may be used; who is told of frames
   */
  static async connect(base, { token = "", patienceMs = 30_000, silenceMs = 60_000, sockets = true, watch = {} } = {}) {
    const link = new SplitLink(new URL(base), { token, patienceMs, silenceMs, sockets, watch });
    let answer;
    try {
      answer = await fetch(new URL("v1/split/offer", link.base), { headers: link.headers, cache: "no-store" });
    } catch {
      throw new EngineError("connection-lost", `Nobody answers at ${link.base.host}.`);
    }
    if (answer.status === 404)
      throw new EngineError(
        "invalid-input",
        "This server has no split mode: it does not run a model's layers for others. Its owner starts it with --split.",
      );
    const document = await answer.json().catch(() => null);
    if (!answer.ok)
      throw new EngineError(
        document?.error?.code ?? "connection-lost",
        document?.error?.message ?? `The server answers ${answer.status}.`,
      );
    if (document?.format !== FORMAT || document.schema !== SCHEMA)
      throw new EngineError("version-mismatch", "The server's offer is of another version; load this page anew.");
    link.offer = document;
    return link;
  }

  /** Use `connect`. @param {URL} base @param {{ token: string, patienceMs: number, silenceMs: number, sockets: boolean, watch: Partial<Watch> }} options */
  constructor(base, options) {
    this.base = base;
    this.options = options;
    /** What the server offers. @type {any} */
    this.offer = null;
    /** Its welcome. @type {Map<string, any>} */
    this.welcome = new Map();
    this.requested = 0;
    /** Connections that were lost and taken up again. */
    this.reconnects = 0;
    /** @type {Socket | Requests | null} */
    this.transport = null;
    this.closed = false;
  }

  get headers() {
    return this.options.token
      ? { authorization: `Bearer ${this.options.token}` }
      : /** @type {Record<string, string>} */ ({});
  }

  /** Which way frames go: `websocket` or `http`. */
  get way() {
    return this.transport?.way ?? "";
  }

  /** Open a session. @param {string} base the digest of the model whose ends are here @param {string | null} adapter @param {DType} dtype */
  async open(base, adapter, dtype) {
    this.dtype = dtype;
    this.first = { type: "open", base, adapter, dtype };
    await this.#welcomed(this.first);
  }

  /**
   * Hidden states after the layers and the final norm.
   * @param {Float32Array} rows (tokens, hidden) @param {number} position of the first @param {boolean} last whether the last one's is enough
   * @returns {Promise<Float32Array>} (tokens, hidden), or (1, hidden) if the last one's is enough
   */
  async forward(rows, position, last) {
    const dtype = /** @type {DType} */ (this.dtype),
      hidden = this.welcome.get("hidden"),
      tokens = rows.length / hidden;
    const asked = frame({ type: "forward", request: ++this.requested, position, tokens, last }, toBytes(rows, dtype));
    const end = performance.now() + this.options.patienceMs;
    for (;;) {
      const [header, payload] = await this.#asked(asked, position);
      if (header.get("type") === "hidden") {
        const states = fromBytes(payload, dtype);
        if (header.get("request") !== this.requested || states.length !== (last ? 1 : tokens) * hidden)
          throw new EngineError("corrupt-payload", "The server answers what was not asked.");
        return states;
      }
      const pause = header.get("retry_s");
      if (header.get("position") < position) throw new CacheLost(header.get("position"));
      if (pause === null || performance.now() + 1000 * pause > end) throw refusal(header);
      this.options.watch.waiting?.(header.get("message"));
      await sleep(1000 * pause);
      return this.forward(rows, position, last);
    }
  }

  /** End the session. */
  close() {
    this.closed = true;
    this.transport?.close();
  }

  /** The answer to a request, over as many connections as it takes. @param {Uint8Array} asked @param {number} position @returns {Promise<Frame>} */
  async #asked(asked, position) {
    for (let losses = 0; ; losses++) {
      try {
        if (!this.transport) throw new EngineError("connection-lost", "There is no connection.");
        return await this.transport.ask(asked);
      } catch (error) {
        if (this.closed || losses === MOST_LOSSES || /** @type {any} */ (error).code !== "connection-lost") throw error;
        const same = await this.#resumed();
        if (same && this.welcome.get("position") >= position) continue;
        this.requested = this.welcome.get("requested");
        throw new CacheLost(this.welcome.get("position"));
      }
    }
  }

  /** Take the session up again, or open another one if the server has forgotten it. @returns {Promise<boolean>} whether it is the same */
  async #resumed() {
    const end = performance.now() + this.options.patienceMs;
    this.options.watch.waiting?.("The connection was lost; it is taken up again …");
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        const { secret } = this,
          session = this.welcome.get("session");
        await this.#welcomed({ type: "resume", session, token: secret, position: 0 }).catch((error) => {
          if (error.code === "connection-lost" || error.retry_s) throw error;
          return this.#welcomed(this.first);
        });
        this.reconnects++;
        return this.welcome.get("session") === session;
      } catch (error) {
        if (performance.now() > end || this.closed) throw error;
      }
      await sleep(pause);
    }
  }

  /** @param {any} first */
  async #welcomed(first) {
    const bytes = frame(first),
      ways = this.transport ? [this.transport.constructor] : this.options.sockets ? [Socket, Requests] : [Requests];
    for (const [i, Way] of ways.entries()) {
      const transport = /** @type {Socket | Requests} */ (new /** @type {any} */ (Way)(this));
      try {
        const welcome = await transport.begin(bytes);
        if (this.closed) return transport.close();
        this.transport = transport;
        this.welcome = welcome;
        if (welcome.get("token").length) this.secret = welcome.get("token").slice();
        return;
      } catch (error) {
        // A socket that could not be opened at all may be forbidden by what is in between.
        if (i + 1 === ways.length || /** @type {any} */ (error).code !== "connection-lost") throw error;
      }
    }
  }
}

/** @param {number} ms */
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
