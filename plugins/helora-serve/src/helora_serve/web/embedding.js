// @ts-check
/** Where slots are among the values of the complex transform, and its powers: as helora_rns/embedding.py has them. */

const GENERATOR = 5;
const FRACTION_BITS = 128n;
const ONE = 1n << FRACTION_BITS;

/** @param {bigint} square */
function root(square) {
  let x = 1n << BigInt((square.toString(2).length + 1) >> 1);
  for (;;) {
    const next = (x + square / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}

/** 2·t(n) of the N/2 nodes. @param {number} ringDegree */
function exponents(ringDegree) {
  let twice = [0, ringDegree / 2];
  while (twice.length < ringDegree / 2)
    twice = twice.concat(twice.slice(twice.length / 2).flatMap((last) => [last / 2, last / 2 + ringDegree]));
  return twice;
}

/**
 * cos(π·k/2N) for k from 0 to N, each the double next to it. In integers, since libraries' cosines differ in last bits.
 * @param {number} ringDegree @returns {Float64Array}
 */
export function cosines(ringDegree) {
  let [c, s] = [0n, ONE];
  for (let n = 1; n < ringDegree; n *= 2) {
    const half = root(((ONE + c) << FRACTION_BITS) >> 1n);
    [c, s] = [half, (s << FRACTION_BITS) / (2n * half)];
  }
  const out = new Float64Array(ringDegree + 1);
  for (let k = 0, x = ONE, y = 0n; k <= ringDegree / 2; k++) {
    out[k] = Number(x) * 2 ** -128;
    out[ringDegree - k] = Number(y) * 2 ** -128;
    [x, y] = [(x * c - y * s) >> FRACTION_BITS, (x * s + y * c) >> FRACTION_BITS];
  }
  return out;
}

/** N/2 cosines and N/2 sines of the nodes' powers of ζ. @param {number} ringDegree @returns {Float64Array} */
export function powers(ringDegree) {
  const table = cosines(ringDegree);
  const out = new Float64Array(ringDegree);
  exponents(ringDegree).forEach((e, i) => {
    out[i] = e <= ringDegree ? table[e] : -table[2 * ringDegree - e];
    out[ringDegree / 2 + i] = table[Math.abs(ringDegree - e)];
  });
  return out;
}

/**
 * For slot j the place among the transform's values that holds it.
 * @param {number} ringDegree
 * @returns {Uint32Array}
 */
export function slotPlaces(ringDegree) {
  const placeOf = new Uint32Array(2 * ringDegree);
  exponents(ringDegree)
    .slice(ringDegree / 4)
    .forEach((last, i) => {
      placeOf[last / 2] = 2 * i;
      placeOf[last / 2 + ringDegree] = 2 * i + 1;
    });
  const places = new Uint32Array(ringDegree / 2);
  for (let j = 0, e = 1; j < places.length; j++, e = (e * GENERATOR) % (2 * ringDegree)) places[j] = placeOf[e];
  return places;
}

/** The automorphism that rotates slots left. @param {number} steps @param {number} ringDegree */
export function galoisElement(steps, ringDegree) {
  let element = 1;
  for (let i = 0; i < steps; i++) element = (element * GENERATOR) % (2 * ringDegree);
  return element;
}

/**
 * The index by which values are permuted when x becomes x^element: value i comes from place index[i].
 * @param {number} ringDegree @param {number} element @returns {Uint32Array}
 */
export function automorphism(ringDegree, element) {
  const reversed = new Uint32Array(ringDegree);
  for (let size = 1; size < ringDegree; size *= 2)
    for (let i = 0; i < size; i++) {
      reversed[i] *= 2;
      reversed[size + i] = reversed[i] + 1;
    }
  const index = new Uint32Array(ringDegree);
  for (let i = 0; i < ringDegree; i++)
    index[i] = reversed[(((element * (2 * reversed[i] + 1)) % (2 * ringDegree)) - 1) / 2];
  return index;
}

/** The element whose automorphism undoes that of another. @param {number} element @param {number} ringDegree */
export function inverseElement(element, ringDegree) {
  // The group has 2-power order N/2 on these elements' powers, so that element^(N − 1) is the inverse.
  let result = 1;
  for (let i = 1; i < ringDegree; i++) result = (result * element) % (2 * ringDegree);
  return result;
}
