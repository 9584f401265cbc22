// @ts-check
/** Greedy answers of a model, token by token. */

/** @typedef {import("../model/model.js").Model} Model */
/**
 * @typedef {object} How
 * @property {number[]} ends tokens that end an answer
 * @property {number} most tokens
 * @property {Set<string>} adapted modules that get a Δ
 * @property {import("../model/model.js").Ask} ask gives it
 * @property {AbortSignal} [signal] an end from outside, between two tokens
 */

/**
 * The tokens of an answer. What the cache has of the prompt already is not run again.
 *
 * @param {Model} model
 * @param {number[]} cached the tokens that the model's cache holds; kept up to date
 * @param {number[]} prompt
 * @param {How} how
 * @returns {AsyncGenerator<number>}
 */
export async function* answer(model, cached, prompt, { ends, most, adapted, ask, signal }) {
  let common = 0;
  while (common < Math.min(cached.length, prompt.length - 1) && cached[common] === prompt[common]) common++;
  model.rewind(common);
  cached.length = common;
  let next = prompt.slice(common);
  for (let made = 0; made < most && !signal?.aborted; made++) {
    await model.forward(next, adapted, ask);
    cached.push(...next);
    const token = model.greatest();
    if (ends.includes(token)) return;
    yield token;
    next = [token];
  }
}
