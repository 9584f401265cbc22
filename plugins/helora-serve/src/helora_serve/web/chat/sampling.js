// @ts-check
/** A token drawn from logits. */

/**
 * Drawn from the fewest tokens that have a share of the probability (nucleus sampling; Holtzman and others, 2019).
 * @param {Float32Array} logits @param {{ temperature: number, share: number }} how both above 0; a share of 1 keeps all tokens
 * @param {() => number} [random] from 0 to 1, without 1
 */
export function drawn(logits, { temperature, share }, random = Math.random) {
  let most = -Infinity,
    total = 0;
  for (const logit of logits) if (logit > most) most = logit;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
  for (const weight of weights) total += weight;
  // All that are less likely than this have less than what the share leaves, together.
  const least = ((1 - share) * total) / logits.length;
  const kept = [];
  for (let token = 0; token < weights.length; token++) if (weights[token] >= least) kept.push(token);
  kept.sort((a, b) => weights[b] - weights[a]);
  let end = 0,
    held = 0;
  while (end < kept.length && held < share * total) held += weights[kept[end++]];
  let left = random() * held;
  for (const token of kept.slice(0, end)) if ((left -= weights[token]) < 0) return token;
  return kept[Math.max(0, end - 1)];
}
