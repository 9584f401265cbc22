// @ts-check
/** A split client: tokenizer, embedding, head and sampling in this worker; the server runs the layers and sees their input. */

import { Ends } from "../model/ends.js";
import { Eavesdropper } from "./eavesdropper.js";
import { drawn } from "./sampling.js";
import { CacheLost, SplitLink } from "./split-link.js";
import { Talk } from "./talk.js";

const MOST_REPEATS = 8;

export class Split extends Talk {
  /**
   * @param {(message: any) => void} tell
   * @param {import("./talk.js").Options & { silenceMs?: number }} [options]
   */
  constructor(tell, options = {}) {
    super(tell, options);
    /** @type {Float32Array} */
    this.logits = new Float32Array(0);
    /** The tokens that were sent last, with those before them. @type {number[]} */
    this.context = [];
  }

  /**
   * Load the embedding and the head, open a session.
   * @param {{ server: string, base: string, token?: string, adapter?: string | null, sockets?: boolean, temperature?: number, share?: number }} where
   * `adapter`: the server's first if it is not given, none if null; `sockets`: whether WebSockets may be used; a temperature of 0
   * takes the likeliest token, else tokens are drawn from those that have this share of the probability
   */
  async open({ server, base, token, adapter, sockets, temperature = 0, share = 0.95 }) {
    this.sampling = { temperature, share };
    this.stage("offer");
    const link = (this.link = await SplitLink.connect(server, {
      token,
      sockets,
      patienceMs: this.options.patienceMs,
      silenceMs: this.options.silenceMs,
      watch: {
        sent: (frame) => this.#sent(frame),
        received: (frame) => this.#received(frame),
        waiting: (why) => this.tell({ waiting: why }),
      },
    }));
    const ends = (this.ends = await this.loaded(base, "ends", (manifest, kernels, piece, progress) =>
      Ends.load(manifest, kernels, piece, { progress }),
    ));
    const { weights, source, name } = ends.of,
      { offer } = link;
    if (source !== offer.base.sha256)
      throw new Error(
        `The embedding here is that of ${name}, and the server runs another model, ${offer.base.name}: load this page from that server.`,
      );
    const dtype = weights === "f32" ? "float32" : "float16";
    this.eavesdropper = new Eavesdropper(ends, dtype, (found) => this.#recovered(found));
    this.stage("session");
    const chosen = adapter === undefined ? (offer.adapters[0] ?? null) : adapter;
    await link.open(source, chosen, dtype);
    this.tell({
      ready: {
        base: name,
        adapter: chosen,
        mode: link.welcome.get("mode"),
        sees: link.welcome.get("sees"),
        encrypted: offer.encrypted,
        way: link.way,
        bytes: ends.of.bytes,
        memory: ends.memory.buffer.byteLength,
      },
    });
  }

  get positions() {
    return Math.min(this.manifest?.positions ?? 0, this.link?.welcome.get("most_positions") ?? 0);
  }

  /** The server does so when it is told where the next tokens belong. */
  rewind() {}

  /** @param {number[]} tokens */
  async forward(tokens) {
    const { ends, link } = /** @type {{ ends: Ends, link: SplitLink }} */ (/** @type {unknown} */ (this));
    const all = (this.context = [...this.cached, ...tokens]);
    /** @type {Float32Array} */
    let states = new Float32Array(0);
    let repeats = 0;
    for (let at = this.cached.length; at < all.length; ) {
      const some = all.slice(at, at + link.welcome.get("most_tokens"));
      try {
        states = await link.forward(ends.rows(some), at, true);
        at += some.length;
      } catch (error) {
        if (!(error instanceof CacheLost) || ++repeats > MOST_REPEATS) throw error;
        at = error.position;
      }
    }
    this.logits = ends.logits(states);
  }

  choose() {
    const ends = /** @type {Ends} */ (this.ends),
      { sampling } = this;
    return sampling?.temperature ? drawn(this.logits, sampling) : ends.greatest();
  }

  forget() {
    super.forget();
    this.context = [];
    if (this.eavesdropper) this.eavesdropper.tokens = [];
  }

  /** End the session. */
  close() {
    this.link?.close();
  }

  /** @param {Uint8Array} frame */
  #sent(frame) {
    this.bytes.up += frame.length;
    this.bytes.requests++;
    this.tell({ sent: { bytes: frame.length } });
    this.eavesdropper?.heard(frame);
  }

  /** @param {Uint8Array} frame */
  #received(frame) {
    this.bytes.down += frame.length;
    this.tell({ received: { bytes: frame.length } });
  }

  /** @param {{ position: number, tokens: number[] }} found */
  #recovered({ position, tokens }) {
    const { eavesdropper, conversation, context } = this,
      all = eavesdropper?.tokens ?? [];
    const text = (/** @type {number[]} */ some) =>
      conversation?.tokenizer.decode(some, { skip_special_tokens: false }) ?? "";
    const right = all.filter((token, i) => token === context[i]).length;
    this.tell({
      recovered: { text: text(all), words: text(tokens), count: tokens.length, position, right, of: all.length },
    });
  }
}
