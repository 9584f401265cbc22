// @ts-check
/**
 * A server's offer: which modules can be asked for, by which plans, under which parameters.
 *
 * What a plan says is not taken on trust where x is concerned: parameters are judged by the security table, primes are
 * worked out here, and of results only the form that the plan states is read. Which program the server runs cannot be
 * checked from here; it has ciphertexts alone.
 */

import { joined, sha256, utf8 } from "./bytes.js";
import { layoutOf } from "./packings.js";
import { nttPrimes } from "./primes.js";
import { EngineError } from "./wasm.js";

const FORMAT = "helora-offer";
const SCHEMA = 2;
const MOST_BYTES = 64 << 20;

/**
 * log2(QP) at most for 128 bits against classical attacks: the 2024 guidelines for a ternary secret.
 * @type {Record<number, number>}
 */
const MOST_MODULUS_BITS = { 1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430, 32768: 868, 65536: 1747 };

/**
 * @typedef {{ ring_degree: number, data_bits: number[], special_bits: number[], scale_bits: number, wrap_bits: number
 *   }} Params
 */

/**
 * @typedef {object} Plan
 * @property {string} digest
 * @property {any} recipe
 * @property {Params} params
 * @property {string} keySet name of the parameters, equal for plans that share keys
 * @property {import("./packings.js").Layout} layout
 * @property {number[]} steps
 * @property {number[]} inputs which of the layout's vectors are sent
 * @property {(number | null)[]} outputs for each of the layout's results its place in an answer, null for a zero
 * @property {number[]} lowBits that each result has lost
 * @property {boolean} publicKey
 */

/** @typedef {{ name: string, parts: { name: string, d_out: number }[], plan: Plan, exponent: number }} OfferedModule */

/** @param {string} what */
const corrupt = (what) => new EngineError("corrupt-payload", `Offer: ${what}.`);

/**
 * Read an offer.
 * @param {Uint8Array} bytes JSON
 * @returns {{ origin: string, messageBytes: number, plans: Plan[], modules: OfferedModule[] }}
 */
export function readOffer(bytes) {
  if (bytes.length > MOST_BYTES) throw corrupt("it is too long");
  let offer;
  try {
    offer = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw corrupt("it is no JSON");
  }
  if (offer?.format !== FORMAT) throw corrupt("its format is another");
  if (offer.schema !== SCHEMA)
    throw new EngineError("version-mismatch", `Offer: of schema ${offer.schema}; ${SCHEMA} is read here.`);
  if (offer.backend !== "rns")
    throw new EngineError("foreign-ciphertext", `Offer: of backend ${offer.backend}, not rns.`);
  const plans = new Map(offer.plans.map((/** @type {any} */ recipe) => [recipe.digest, planOf(recipe)]));
  const modules = offer.modules.map((/** @type {any} */ module) => {
    const plan = plans.get(module.plan);
    const width = module.parts.reduce((/** @type {number} */ sum, /** @type {any} */ part) => sum + part.d_out, 0);
    if (!plan || width !== plan.recipe.shape.d_out) throw corrupt("it contradicts itself");
    return { ...module, plan };
  });
  if (!modules.length) throw corrupt("it offers nothing");
  return {
    origin: `${offer.backend}\n${offer.library}`,
    messageBytes: offer.message_bytes,
    plans: [...plans.values()],
    modules,
  };
}

/** @param {any} recipe @returns {Plan} */
function planOf(recipe) {
  const { params, low_bits: low } = recipe.settings;
  requireSecure(params);
  const layout = layoutOf(recipe),
    sanitized = recipe.sanitize_bits !== null;
  const program = recipe.program;
  const ops = program?.ops ?? [];
  const kinds = (/** @type {string} */ kind) => ops.filter((/** @type {any} */ op) => op.kind === kind);
  /** @type {Plan} */
  const plan = {
    digest: recipe.digest,
    recipe,
    params,
    keySet: JSON.stringify(params),
    layout,
    steps: program
      ? [...new Set(/** @type {number[]} */ (kinds("rotate").map((/** @type {any} */ op) => op.steps)))].sort(
          (a, b) => a - b,
        )
      : layout.steps,
    inputs: program ? kinds("input").map((/** @type {any} */ op) => op.positions[0]) : [...layout.inputs],
    outputs: Array.from({ length: layout.results }, (_, i) => i),
    lowBits: sanitized && low.length ? low : [0, 0],
    publicKey: sanitized || layout.answer !== undefined,
  };
  if (program) {
    let next = 0;
    plan.outputs = program.outputs.map((/** @type {number | null} */ output) => (output === null ? null : next++));
    if (plan.outputs.length !== layout.results) throw corrupt("a program has other results than its layout");
  }
  return plan;
}

/** @param {Params} params */
function requireSecure(params) {
  const all = [...params.data_bits, ...params.special_bits];
  const bits = all.reduce((sum, each) => sum + each, params.wrap_bits ?? 0);
  const most = MOST_MODULUS_BITS[params.ring_degree] ?? 0;
  if (!params.data_bits.length || bits > most)
    throw new EngineError(
      "insecure-parameters",
      `Offer: a modulus of ${bits} bits at N = ${params.ring_degree}; at most ${most} are secure.`,
    );
}

/**
 * The parameters as the engine takes them, with the primes that helora-rns takes.
 * @param {Params} params
 * @returns {import("./ring.js").Parameters}
 */
export function resolved(params) {
  const primes = nttPrimes([...params.data_bits, ...params.special_bits], params.ring_degree);
  return {
    ringDegree: params.ring_degree,
    dataPrimes: primes.slice(0, params.data_bits.length),
    specialPrimes: primes.slice(params.data_bits.length),
  };
}

/** 32 bytes that are the same on both sides if their parameters are. @param {Params} params */
export async function fingerprintOf(params) {
  const { dataPrimes, specialPrimes = [] } = resolved(params);
  const list = (/** @type {readonly (number | bigint)[]} */ numbers) => `[${numbers.join(",")}]`;
  const text = [
    `"ring_degree":${params.ring_degree}`,
    `"data_bits":${list(params.data_bits)}`,
    `"special_bits":${list(params.special_bits)}`,
    `"scale_bits":${params.scale_bits}`,
    `"secret":"ternary"`,
    `"data_primes":${list(dataPrimes)}`,
    `"special_primes":${list(specialPrimes)}`,
    ...(params.wrap_bits ? [`"wrap_bits":${params.wrap_bits}`] : []),
  ].join(",");
  return sha256(joined([utf8(`{${text}}`)]));
}

/**
 * The key sets of plans, in the order in which a server expects them.
 * @param {readonly Plan[]} plans
 */
export function keySetsOf(plans) {
  /** @type {Map<string, { name: string, params: Params, steps: number[], publicKey: boolean }>} */
  const sets = new Map();
  for (const plan of [...plans].sort((a, b) => (a.digest < b.digest ? -1 : 1))) {
    const known = sets.get(plan.keySet) ?? { name: plan.keySet, params: plan.params, steps: [], publicKey: false };
    known.steps = [...new Set([...known.steps, ...plan.steps])].sort((a, b) => a - b);
    known.publicKey ||= plan.publicKey;
    sets.set(plan.keySet, known);
  }
  return [...sets.values()];
}
