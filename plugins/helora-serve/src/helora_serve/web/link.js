// @ts-check
/**
 * A session at a server, over `helora.delta.v1`: docs/protocol.md. A socket that is lost is taken up again by another
 * one, and what the server has not answered is sent again.
 *
 *     const link = await Link.connect("https://host/");
 *     const client = await Client.make(engine, link.delta);
 *     await link.open(client.evaluationKeys);
 *     const answer = await link.ask(message);
 */

import { hex, sha256, utf8 } from "./bytes.js";
import { frame, parts } from "./frames.js";
import { EngineError } from "./wasm.js";

const SUBPROTOCOL = "helora.delta.v1",
  BEARER = "helora.bearer.";
const FORMAT = "helora-serve-offer",
  SCHEMA = 1;
const FIRST_PAUSE_MS = 100,
  LONGEST_PAUSE_MS = 3000;

/** @typedef {{ message: Uint8Array, resolve: (answer: Uint8Array) => void, reject: (error: Error) => void }} Pending */
/**
 * @typedef {{ answer: (request: number, bytes: number) => void, ask: (request: number, message: Uint8Array) => void }}
 *   Watch
 */

export class Link {
  /**
   * Read a server's offer.
   * @param {string | URL} base the server's address
   * @param {{ token?: string, patienceMs?: number, watch?: Partial<Watch> }} [options] how long lost sockets are tried
   * again; `watch` is told of every message
   */
  static async connect(base, { token = "", patienceMs = 30_000, watch = {} } = {}) {
    const link = new Link(new URL(base), token, patienceMs, watch);
    const answer = await link.#fetch("v1/offer");
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const document = JSON.parse(new TextDecoder().decode(bytes));
    if (document.format !== FORMAT || document.schema !== SCHEMA)
      throw new EngineError("version-mismatch", "The server's offer is of another version; load this page anew.");
    link.offer = document;
    link.delta = utf8(JSON.stringify(document.delta));
    return link;
  }

  /** Use `connect`. @param {URL} base @param {string} token @param {number} patienceMs @param {Partial<Watch>} watch */
  constructor(base, token, patienceMs, watch) {
    this.base = base;
    this.token = token;
    this.patienceMs = patienceMs;
    this.watch = watch;
    /** What the server offers. @type {any} */
    this.offer = null;
    /** Its offer of plans, for `Client.make`. */
    this.delta = new Uint8Array(0);
    /** The server's welcome: limits, and `mode`. @type {Map<string, any>} */
    this.welcome = new Map();
    /** What it says of the budget of queries, once half of it is used. @type {Map<string, any> | null} */
    this.notice = null;
    /** @type {Map<number, Pending>} */
    this.pending = new Map();
    /** @type {WebSocket | null} */
    this.socket = null;
    this.session = "";
    this.secret = new Uint8Array(0);
    this.asked = 0;
    this.received = 0;
    /** Sockets that were lost and taken up again. */
    this.reconnects = 0;
    /** @type {Error | null} */
    this.lost = null;
  }

  /** Open a session. @param {Uint8Array} keys the client's evaluation keys */
  async open(keys) {
    this.keys = { bytes: keys, digest: hex(await sha256(keys)) };
    const path = `v1/keys/${this.keys.digest}`;
    const there = await fetch(new URL(path, this.base), { method: "HEAD", headers: this.#headers });
    if (there.status === 404) await this.#fetch(path, { method: "PUT", body: /** @type {any} */ (keys) });
    await this.#dial({ type: "open", version: this.offer.version, keys: this.keys.digest });
  }

  /** The answer to a message. @param {Uint8Array} message @returns {Promise<Uint8Array>} */
  ask(message) {
    if (this.lost) return Promise.reject(this.lost);
    const request = ++this.asked;
    return new Promise((resolve, reject) => {
      this.pending.set(request, { message, resolve, reject });
      this.watch.ask?.(request, message);
      this.#send(request, message);
    });
  }

  /** End the session. */
  close() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(frame({ type: "close" }));
    this.#lose(new EngineError("connection-lost", "The session was closed here."));
  }

  get #headers() {
    return this.token ? { authorization: `Bearer ${this.token}` } : /** @type {Record<string, string>} */ ({});
  }

  /** @param {string} path @param {RequestInit} [init] */
  async #fetch(path, init = {}) {
    let answer;
    try {
      answer = await fetch(new URL(path, this.base), { ...init, headers: this.#headers, cache: "no-store" });
    } catch {
      throw new EngineError("connection-lost", `Nobody answers at ${this.base.host}.`);
    }
    if (answer.ok) return answer;
    const refusal = await answer.json().catch(() => null);
    throw new EngineError(
      refusal?.error?.code ?? "connection-lost",
      refusal?.error?.message ?? `The server answers ${answer.status}.`,
    );
  }

  /** @param {number} request @param {Uint8Array} message */
  #send(request, message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return; // it is sent when the session is taken up again
    this.socket.send(frame({ type: "ask", request, received: this.received }, message));
  }

  /** Connect a socket, and wait for the welcome. @param {Record<string, any>} first */
  #dial(first) {
    const address = new URL(this.offer.path.replace(/^\//, ""), this.base);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, [SUBPROTOCOL, ...(this.token ? [BEARER + this.token] : [])]);
    socket.binaryType = "arraybuffer";
    return /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => {
        let welcomed = false;
        /** @type {EngineError & { final?: boolean }} */
        let why = new EngineError("connection-lost", "The socket to the server was lost.");
        socket.onopen = () => socket.send(frame(first));
        socket.onmessage = ({ data }) => {
          const [header, payload] = parts(new Uint8Array(data));
          if (header.get("type") === "welcome") {
            welcomed = true;
            this.#welcomed(socket, header);
            resolve();
          } else if (header.get("type") === "goodbye") {
            why = Object.assign(new EngineError(header.get("code"), header.get("message")), {
              final: !header.get("resumable") && header.get("retry_s") === null,
            });
          } else {
            this.#take(header, payload);
          }
        };
        socket.onclose = () => {
          if (!welcomed) reject(why);
          else if (this.socket === socket) {
            this.socket = null;
            if (why.final) this.#lose(why);
            else void this.#resume();
          }
        };
      })
    );
  }

  /** @param {WebSocket} socket @param {Map<string, any>} welcome */
  #welcomed(socket, welcome) {
    this.socket = socket;
    this.welcome = welcome;
    this.session = welcome.get("session");
    if (welcome.get("token").length) this.secret = welcome.get("token").slice();
    for (const [request, { message }] of this.pending)
      if (request > welcome.get("requested")) this.#send(request, message);
  }

  async #resume() {
    const end = Date.now() + this.patienceMs;
    for (let pause = FIRST_PAUSE_MS; !this.lost; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        const first = { type: "resume", session: this.session, token: this.secret, received: this.received };
        await this.#dial(first);
        this.reconnects++;
        return;
      } catch (error) {
        if (/** @type {any} */ (error).final || Date.now() > end) return this.#lose(/** @type {Error} */ (error));
      }
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  /** @param {Map<string, any>} header @param {Uint8Array} payload */
  #take(header, payload) {
    if (header.get("type") === "notice") {
      this.notice = header;
      return;
    }
    if (header.get("number") <= this.received) return; // it came again after a resumption
    this.received = header.get("number");
    const pending = this.pending.get(header.get("request"));
    if (!pending) return this.#lose(new EngineError("corrupt-payload", "The server answers what was not asked."));
    this.pending.delete(header.get("request"));
    this.watch.answer?.(header.get("request"), payload.length);
    if (header.get("type") === "answer") pending.resolve(payload.slice());
    else pending.reject(new EngineError(header.get("code"), header.get("message")));
    if (!this.pending.size) this.socket?.send(frame({ type: "ack", received: this.received }));
  }

  /** @param {Error} error */
  #lose(error) {
    this.lost = this.lost ?? error;
    for (const { reject } of this.pending.values()) reject(this.lost);
    this.pending.clear();
    this.socket?.close();
  }
}
