// @ts-check
/** Primes that are 1 modulo 2N: those that helora's own engine takes for bit lengths, so that only these travel. */

const BASES = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n, 41n];

/** @param {bigint} base @param {bigint} exponent @param {bigint} modulus */
export function power(base, exponent, modulus) {
  let result = 1n;
  for (let square = base % modulus, left = exponent; left; left >>= 1n, square = (square * square) % modulus)
    if (left & 1n) result = (result * square) % modulus;
  return result;
}

/** Whether a number below 3.3e24 is prime (Sorenson and Webster, 2015). @param {bigint} number */
export function isPrime(number) {
  if (BASES.includes(number)) return true;
  if (number < 2n || BASES.some((base) => number % base === 0n)) return false;
  let odd = number - 1n;
  let twos = 0;
  for (; !(odd & 1n); odd >>= 1n) twos++;
  return BASES.every((base) => {
    let x = power(base, odd, number);
    if (x === 1n) return true;
    for (let i = 0; i < twos; i++, x = (x * x) % number) if (x === number - 1n) return true;
    return false;
  });
}

/** @param {bigint} number */
export function bitLength(number) {
  return number.toString(2).length;
}

/**
 * The largest primes of these bit lengths that are 1 modulo 2N, all different: of each length the smallest found first.
 * @param {readonly number[]} bits @param {number} ringDegree @returns {bigint[]}
 */
export function nttPrimes(bits, ringDegree) {
  /** @type {Map<number, bigint[]>} */
  const found = new Map();
  const step = BigInt(2 * ringDegree);
  for (const size of new Set(bits)) {
    const wanted = bits.filter((each) => each === size).length;
    const primes = [];
    let candidate = (((1n << BigInt(size)) - 1n) / step) * step + 1n;
    for (; primes.length < wanted && candidate >> BigInt(size - 1); candidate -= step)
      if (!(candidate >> BigInt(size)) && isPrime(candidate)) primes.push(candidate);
    if (primes.length < wanted) throw new RangeError(`too few primes of ${size} bits are 1 modulo ${step}`);
    found.set(size, primes);
  }
  return bits.map((size) => /** @type {bigint} */ (found.get(size)?.pop()));
}
