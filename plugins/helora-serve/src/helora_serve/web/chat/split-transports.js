// @ts-check
/** The two ways of a session's frames: a WebSocket, or requests of which each takes the session up. */

import { joined, view } from "../bytes.js";
import { frame, parts } from "../frames.js";
import { EngineError } from "../wasm.js";

/** @typedef {import("./split-link.js").SplitLink} SplitLink */
/** @typedef {import("./split-link.js").Frame} Frame */

const SUBPROTOCOL = "helora.split.v1",
  BEARER = "helora.bearer.",
  MEDIA_TYPE = "application/x-helora-frames";
const PAUSE_MS = 50;

const lost = () => new EngineError("connection-lost", "The connection to the server was lost.");

/** One answer at a time over a WebSocket. */
export class Socket {
  way = "websocket";

  /** @param {SplitLink} link */
  constructor(link) {
    this.link = link;
    /** @type {{ resolve: (frame: Frame) => void, reject: (error: Error) => void } | null} */
    this.waiting = null;
    /** @type {Error | null} */
    this.ended = null;
    this.welcomed = false;
  }

  /** Connect, and say which session it is for. @param {Uint8Array} first @returns {Promise<Map<string, any>>} the welcome */
  async begin(first) {
    const { base, offer, options } = this.link;
    const address = new URL(offer.path.replace(/^\//, ""), base);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    try {
      this.socket = new WebSocket(address, [SUBPROTOCOL, ...(options.token ? [BEARER + options.token] : [])]);
    } catch {
      throw lost(); // there are none, or the page's policy forbids this one
    }
    const socket = this.socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#take(new Uint8Array(data));
    socket.onclose = () => this.#end(lost());
    socket.onopen = () => socket.send(/** @type {BufferSource} */ (first));
    const [header] = await this.#next();
    if (header.get("type") !== "welcome")
      throw new EngineError("corrupt-payload", "The server does not begin with a welcome.");
    this.welcomed = true;
    return header;
  }

  /** @param {Uint8Array} asked @returns {Promise<Frame>} the answer to a frame */
  ask(asked) {
    if (!this.ended) {
      this.link.options.watch.sent?.(asked);
      this.socket?.send(/** @type {BufferSource} */ (asked));
    }
    return this.#next();
  }

  close() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(frame({ type: "close" }));
    this.#end(lost());
  }

  /** @returns {Promise<Frame>} */
  #next() {
    if (this.ended) return Promise.reject(this.ended);
    const silence = setTimeout(() => this.#end(lost()), this.link.options.silenceMs);
    return /** @type {Promise<Frame>} */ (
      new Promise((resolve, reject) => (this.waiting = { resolve, reject }))
    ).finally(() => clearTimeout(silence));
  }

  /** @param {Uint8Array} bytes */
  #take(bytes) {
    this.link.options.watch.received?.(bytes);
    try {
      const found = parts(bytes);
      if (found[0].get("type") === "goodbye") return this.#end(farewell(found[0], this.welcomed));
      if (found[0].get("request") < this.link.requested) return; // an earlier answer, which came again
      this.waiting?.resolve(found);
      this.waiting = null;
    } catch (error) {
      this.#end(/** @type {Error} */ (error));
    }
  }

  /** @param {Error} why */
  #end(why) {
    this.ended ??= why;
    this.waiting?.reject(this.ended);
    this.waiting = null;
    this.socket?.close();
  }
}

/** Each frame is posted behind the one that takes the session up. */
export class Requests {
  way = "http";

  /** @param {SplitLink} link */
  constructor(link) {
    this.link = link;
  }

  /** As `Socket` does. @param {Uint8Array} first @returns {Promise<Map<string, any>>} */
  async begin(first) {
    const [[welcome]] = await this.#post([first], false);
    return welcome;
  }

  /** As `Socket` does. @param {Uint8Array} asked @returns {Promise<Frame>} */
  async ask(asked) {
    const end = performance.now() + this.link.options.silenceMs;
    while (performance.now() < end) {
      this.link.options.watch.sent?.(asked);
      const [[welcome], answer] = await this.#post([this.#resume(), asked]);
      if (answer) return answer;
      this.link.welcome = welcome; // it is not answered yet: a response lasts only so long
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
    throw lost();
  }

  close() {
    void this.#post([this.#resume(), frame({ type: "close" })]).catch(() => {});
  }

  #resume() {
    const { welcome, secret } = this.link;
    return frame({
      type: "resume",
      session: welcome.get("session"),
      token: /** @type {Uint8Array} */ (secret),
      position: 0,
    });
  }

  /** @param {Uint8Array[]} frames @param {boolean} [welcomed] before @returns {Promise<Frame[]>} what is answered, of which the first is a welcome */
  async #post(frames, welcomed = true) {
    const { base, offer, options, headers } = this.link;
    const address = new URL(offer.path.replace(/^\//, ""), base);
    const body = joined(
      frames.flatMap((each) => [
        Uint8Array.of(each.length >>> 24, each.length >>> 16, each.length >>> 8, each.length),
        each,
      ]),
    );
    let status = 0,
      bytes = new Uint8Array(0);
    try {
      const answer = await fetch(address, {
        method: "POST",
        body: /** @type {BodyInit} */ (body),
        headers: { ...headers, "content-type": MEDIA_TYPE },
        signal: AbortSignal.timeout(options.silenceMs),
      });
      status = answer.status;
      bytes = new Uint8Array(await answer.arrayBuffer());
    } catch {
      throw lost();
    }
    if (status !== 200) throw refused(status, bytes);
    const found = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + 4 + (at + 4 <= bytes.length ? view(bytes).getUint32(at) : Infinity);
      if (end > bytes.length) throw lost(); // cut short
      const one = bytes.subarray(at + 4, end),
        read = parts(one);
      options.watch.received?.(one);
      if (read[0].get("type") === "goodbye") throw farewell(read[0], welcomed);
      found.push(read);
      at = end;
    }
    if (!found.length) throw lost();
    return found;
  }
}

/** @param {Map<string, any>} header of a refusal or a goodbye */
export function refusal(header) {
  return Object.assign(new EngineError(header.get("code"), `${header.get("message")} ${header.get("hint")}`.trim()), {
    retry_s: header.get("retry_s"),
  });
}

/**
 * A goodbye as an error: of a session that was welcomed it is a loss, after which the session or another one goes on.
 * @param {Map<string, any>} header @param {boolean} welcomed @returns {Error}
 */
function farewell(header, welcomed) {
  return welcomed ? Object.assign(refusal(header), { code: "connection-lost" }) : refusal(header);
}

/** @param {number} status @param {Uint8Array} bytes @returns {Error} */
function refused(status, bytes) {
  try {
    return refusal(new Map(Object.entries({ hint: "", ...JSON.parse(new TextDecoder().decode(bytes)).error })));
  } catch {
    return status >= 500 ? lost() : new EngineError("invalid-input", `The server answers ${status}.`);
  }
}
