// Evaluated in the page by test_capture.py: a conversation with everything gathered that nobody else may see, and the
// same things sent in clear over the page's own session, each in an encoding of the browser's making.

/** @param {string} name @returns {Promise<any>} */
const web = (name) => import(`/web/${name}`);

/** @param {ArrayBufferView} view */
const base64 = (view) => {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
};

/** Private things, as base64: rows of doubles, tokens, seeds and pads. @type {Record<string, any>} */
const held = { x: [], deltas: [], seeds: [], ternary: [], values: [], packed: [], pads: [], masked: [] };

/** @type {any} */
let own = null;

/** Have every client of this page tell what it is given and makes. */
async function watched() {
  const { Client } = await web("client.js"),
    { Pads } = await web("correlations.js"),
    { begin, prepare } = Client.prototype;
  Client.prototype.begin = async function (/** @type {any} */ names, /** @type {any} */ x, /** @type {any} */ tokens) {
    const request = await begin.call(this, names, x, tokens);
    if (held.x.length < 40) {
      held.x.push(base64(x));
      const receive = request.receive.bind(request);
      request.receive = async (/** @type {any} */ answer) => {
        await receive(answer);
        if (request.done) for (const delta of request.deltas.values()) held.deltas.push(base64(delta));
      };
    }
    return request;
  };
  Client.prototype.prepare = async function (/** @type {any} */ names, /** @type {any} */ count) {
    const preparation = await prepare.call(this, names, count),
      receive = preparation.receive.bind(preparation);
    held.seeds.push(base64(preparation.seed));
    new Pads(this.engine.machine, preparation.seed).rows(0, 2, 0, 8, (/** @type {any} */ _, /** @type {any} */ words) =>
      held.pads.push(base64(this.engine.machine.bytes(words, 64))),
    );
    let seen = false;
    preparation.receive = async (/** @type {any} */ answer) => {
      await receive(answer);
      if (preparation.key?.minus && !seen) {
        seen = true;
        secret(preparation.key.ring, preparation.key.minus);
      }
      if (preparation.done) await pooled(this, names);
    };
    return preparation;
  };
}

/** A secret polynomial by its values, which are those of −s for a batch. @param {any} ring @param {number} values */
function secret(ring, values) {
  const { machine, row, n, limbs, call } = ring;
  held.values.push(base64(machine.bytes(values, 64)));
  held.packed.push(base64(ring.packed(values, 1, limbs).subarray(0, 64)));
  machine.scratch((/** @type {any} */ take) => {
    const copy = take(row * limbs),
      spare = take((2 + limbs) * row),
      doubles = take(row);
    machine.bytes(copy, row * limbs).set(machine.bytes(values, row * limbs));
    call.hr_inverse(ring.ring, ring.basis, limbs, 1, copy);
    call.hr_to_doubles(ring.ring, ring.basis, limbs, doubles, copy, spare);
    held.ternary.push(base64(machine.doubles(doubles, n).slice(0, 256)));
  });
}

/** @param {any} client @param {string[]} names */
async function pooled(client, names) {
  const { batches } = await client.pools(client.asked(names, 1)[0].plan);
  held.masked.push(base64(batches.at(-1).modules[0].masked.slice(0, 64)));
}

/** @param {string[]} said @param {number} most @param {number} ahead */
async function converse(said, most, ahead) {
  const { Private } = await web("chat/private.js");
  await watched();
  /** @type {any[]} */
  const told = [];
  own = new Private((/** @type {any} */ message) => told.push(message), { positions: 100 });
  await own.open({ server: location.href, base: new URL("base/", location.href).href, ahead });
  for (const text of said) await own.say(text, most);
  for (const keys of own.client.keys.values()) {
    held.seeds.push(base64(keys.seed));
    secret(keys.ring, keys.secret);
  }
  held.ids = told.filter((message) => message.done).map((message) => message.ids);
  return { ...held, turns: own.conversation.turns, prompt: own.conversation.prompt() };
}

/** Ways of writing, by the names that helora_serve.capture has for them. */
const encodings = {
  /** @param {string} text @returns {Record<string, Uint8Array>} */
  text(text) {
    const codes = text.split("").map((each) => each.charCodeAt(0)),
      bytes = new TextEncoder().encode(text);
    return {
      "utf-8": bytes,
      "utf-16-le": numbers(codes, 2, "setUint16", true),
      "utf-16-be": numbers(codes, 2, "setUint16", false),
      "utf-8, hex": new TextEncoder().encode(Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("")),
      JSON: new TextEncoder().encode(JSON.stringify({ content: text })),
      URL: new TextEncoder().encode(`?q=${encodeURIComponent(text)}`),
      ...based("utf-8, base64", bytes),
    };
  },
  /** @param {number[]} tokens @returns {Record<string, Uint8Array>} */
  tokens(tokens) {
    return {
      "tokens as <i2": numbers(tokens, 2, "setInt16", true),
      "tokens as >i2": numbers(tokens, 2, "setInt16", false),
      "tokens as <i4": numbers(tokens, 4, "setInt32", true),
      "tokens as >i4": numbers(tokens, 4, "setInt32", false),
      "tokens as <i8": numbers(tokens.map(BigInt), 8, "setBigInt64", true),
      "tokens as >i8": numbers(tokens.map(BigInt), 8, "setBigInt64", false),
      "tokens as varint": Uint8Array.from(
        tokens.flatMap((each) => (each < 128 ? [each] : [(each & 127) | 128, each >> 7])),
      ),
      "tokens in decimal": new TextEncoder().encode(JSON.stringify({ tokens })),
    };
  },
  /** @param {string} name @param {Float64Array} row @returns {Record<string, Uint8Array>} */
  row(name, row) {
    const plain = Array.from(row);
    return {
      [`${name} as <f4`]: numbers(plain, 4, "setFloat32", true),
      [`${name} as >f4`]: numbers(plain, 4, "setFloat32", false),
      [`${name} as <f8`]: numbers(plain, 8, "setFloat64", true),
      [`${name} as >f8`]: numbers(plain, 8, "setFloat64", false),
      [`${name} as <f2`]: numbers(plain, 2, "setFloat16", true),
      [`${name} as >f2`]: numbers(plain, 2, "setFloat16", false),
      [`${name} in decimal`]: new TextEncoder().encode(JSON.stringify(plain)),
    };
  },
  /** @param {Float64Array} ternary @returns {Record<string, Uint8Array>} */
  ternary(ternary) {
    const signed = Array.from(ternary),
      digits = signed.map((each) => (each + 3) % 3);
    return {
      "key as <i1": Uint8Array.from(signed, (each) => each & 255),
      "key as <i4": numbers(signed, 4, "setInt32", true),
      "key as <i8": numbers(signed.map(BigInt), 8, "setBigInt64", true),
      "key as <f4": numbers(signed, 4, "setFloat32", true),
      "key as <f8": numbers(signed, 8, "setFloat64", true),
      "key of digits as <i1": Uint8Array.from(digits),
      "key in two bits": Uint8Array.from({ length: digits.length / 4 }, (_, i) =>
        digits.slice(4 * i, 4 * i + 4).reduce((byte, each, k) => byte | (each << (2 * k)), 0),
      ),
    };
  },
};

/** @param {any[]} values @param {number} size @param {string} set @param {boolean} little */
function numbers(values, size, set, little) {
  const view = new DataView(new ArrayBuffer(size * values.length));
  values.forEach((value, i) => /** @type {any} */ (view)[set](size * i, value, little));
  return new Uint8Array(view.buffer);
}

/** In base64, wherever it begins in it. @param {string} name @param {Uint8Array} bytes */
function based(name, bytes) {
  const all = [0, 1, 2].map((before) => Uint8Array.of(...new Uint8Array(before).fill(7), ...bytes, 7, 7, 7));
  return Object.fromEntries(
    all.map((each, i) => [`${name}#${i}`, new TextEncoder().encode(btoa(String.fromCharCode(...each)))]),
  );
}

/** @param {string} text */
const doubles = (text) => new Float64Array(Uint8Array.from(atob(text), (each) => each.charCodeAt(0)).buffer);

/** Send each private thing in each encoding over the session. @returns {Promise<string[]>} what, in this order */
async function betray() {
  const { turns } = own.conversation;
  /** @type {Record<string, Uint8Array>} */
  const all = {
    ...Object.fromEntries(
      turns.flatMap((/** @type {any} */ turn, /** @type {number} */ i) =>
        Object.entries(encodings.text(turn.content)).map(([name, bytes]) => [`${name}@${i}`, bytes]),
      ),
    ),
    ...encodings.tokens(held.ids[0]),
    ...encodings.row("activations", doubles(held.x[0])),
    ...encodings.row("Δ", doubles(held.deltas[0])),
    ...encodings.ternary(doubles(held.ternary[0])),
  };
  for (const [name, kind] of [
    ["seed", "seeds"],
    ["values", "values"],
    ["packed", "packed"],
    ["pads", "pads"],
    ["correlations", "masked"],
  ])
    if (held[kind].length) all[name] = Uint8Array.from(atob(held[kind][0]), (each) => each.charCodeAt(0));
  for (const bytes of Object.values(all)) {
    const among = Uint8Array.of(
      ...crypto.getRandomValues(new Uint8Array(5)),
      ...bytes,
      ...crypto.getRandomValues(new Uint8Array(7)),
    );
    await own.link.ask(among).catch(() => null); // the server refuses them: they are no messages
  }
  return Object.keys(all);
}

Object.assign(globalThis, { converse, betray });
