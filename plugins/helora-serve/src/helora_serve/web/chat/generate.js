// @ts-check
/** Answers of a model, token by token. */

/**
 * @typedef {{
 *   rewind: (length: number) => void, forward: (tokens: number[]) => Promise<unknown>, choose: () => number,
 * }} Speaker A model with a cache: forgets tokens from a position on; runs tokens after those in the cache; the token
 *   that follows.
 */

/**
 * The tokens of an answer. What the cache has of the prompt already is not run again.
 *
 * @param {Speaker} model
 * @param {number[]} cached the tokens that the model's cache holds; kept up to date
 * @param {number[]} prompt
 * @param {{ ends: number[], most: number, signal?: AbortSignal }} how tokens that end an answer; most tokens; an end
 *   from
 *   outside, between two tokens
 * @returns {AsyncGenerator<number>}
 */
export async function* answer(model, cached, prompt, { ends, most, signal }) {
  let common = 0;
  while (common < Math.min(cached.length, prompt.length - 1) && cached[common] === prompt[common]) common++;
  model.rewind(common);
  cached.length = common;
  let next = prompt.slice(common);
  for (let made = 0; made < most && !signal?.aborted; made++) {
    await model.forward(next);
    cached.push(...next);
    const token = model.choose();
    if (ends.includes(token)) return;
    yield token;
    next = [token];
  }
}
