// @ts-check
/** The keys that a server gets: each polynomial that is uniform as its seed. */

import { joined } from "./bytes.js";
import { automorphism, galoisElement, inverseElement } from "./embedding.js";
import { SEED_BYTES } from "./ring.js";

/** @typedef {import("./ring.js").Ring} Ring */

/**
 * An encryption of zero: the seed of one polynomial, and the other one.
 * @param {Ring} ring @param {number} secret its values @returns {Uint8Array}
 */
export function publicKeyOf(ring, secret) {
  const { row, limbs, call } = ring, seed = ring.random(SEED_BYTES);
  return ring.machine.scratch((take) => {
    const a = take(row * limbs), error = take(row), first = take(row * limbs);
    ring.uniform(a, seed, 1, limbs);
    ring.errors(error);
    call.hr_values_of_doubles(ring.ring, ring.basis, limbs, first, error);
    call.hr_multiply(ring.ring, ring.basis, limbs, 1, 1, a, a, secret);
    call.hr_sub(ring.ring, ring.basis, limbs, 1, first, first, a);
    return joined([seed, ring.packed(first, 1, limbs)]);
  });
}

/**
 * The key of one rotation: the seed of one polynomial of each pair, and the others.
 * @param {Ring} ring @param {number} secret its values @param {number} steps @returns {Uint8Array}
 */
export function rotationKeyOf(ring, secret, steps) {
  const { machine, n, row, limbs, call } = ring, all = ring.primes.length;
  const special = ring.primes.slice(limbs).reduce((a, b) => a * b, 1n);
  return machine.scratch((take) => {
    const before = take(row * all), index = take(4 * n), errors = take(row * limbs), factors = take(8);
    machine.numbers(index, n).set(automorphism(n, inverseElement(galoisElement(steps, n), n)));
    call.hr_permute(ring.ring, all, before, secret, index);
    const seed = ring.random(SEED_BYTES);
    ring.errors(errors, limbs);
    const first = take(row * all * limbs), others = take(row * all * limbs), own = take(row);
    ring.uniform(others, seed, limbs, all);
    for (let i = 0; i < limbs; i++) {
      const out = first + i * all * row, a = others + i * all * row;
      call.hr_values_of_doubles(ring.ring, ring.basis, all, out, errors + i * row);
      call.hr_multiply(ring.ring, ring.basis, all, 1, 1, a, a, before);
      call.hr_sub(ring.ring, ring.basis, all, 1, out, out, a);
      machine.words(factors, 1)[0] = special % ring.primes[i];
      call.hr_times(ring.ring, ring.basis + 4 * i, 1, 1, own, secret + i * row, factors);
      call.hr_add(ring.ring, ring.basis + 4 * i, 1, 1, out + i * row, out + i * row, own);
    }
    return joined([seed, ring.packed(first, limbs, all)]);
  });
}
