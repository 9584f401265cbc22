"""``python -m helora_rns.info``: which kernels run here, and whether they compute what the reference does."""

from __future__ import annotations

import os
import sys

import numpy as np

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.errors import BackendUnavailable
from helora_rns import choice, threads
from helora_rns.arrays import aligned_copy
from helora_rns.compiled import CompiledKernels, library_path
from helora_rns.reference import NumPyKernels

_BITS, _RING_DEGREE = (50, 49, 40, 60), 1024


def _turns(primes: tuple[int, ...]) -> bool:
    """Whether the reference multiplies by x: coefficients move up by one, and the last comes back as its negative."""
    kernels, basis = NumPyKernels(_RING_DEGREE, primes), tuple(range(len(primes)))
    rng, q = np.random.default_rng(2), np.array(primes, dtype=np.uint64)
    a = aligned_copy(np.stack([rng.integers(0, prime, _RING_DEGREE, dtype=np.uint64) for prime in primes])[np.newaxis])
    x = aligned_copy(np.zeros_like(a))
    x[..., 1] = 1
    expected = np.roll(a, 1, axis=-1)
    expected[..., 0] = (q - a[..., -1]) % q
    kernels.forward(a, basis)
    kernels.forward(x, basis)
    product = kernels.multiply(a, x, basis)
    kernels.inverse(product, basis)
    return bool(np.array_equal(product, expected))


def self_test(name: str) -> bool:
    """Whether a product of polynomials, rescaled, has the same bits by this kernel set and by the reference."""
    found = distinct_ntt_primes(_BITS, _RING_DEGREE)
    if name == NumPyKernels.name:
        return _turns(found)
    basis = tuple(range(len(found)))
    rng = np.random.default_rng(1)
    a = np.stack([rng.integers(0, q, _RING_DEGREE, dtype=np.uint64) for q in found])[np.newaxis]
    results = []
    for kernels in (NumPyKernels(_RING_DEGREE, found), CompiledKernels(name, _RING_DEGREE, found)):
        x = aligned_copy(a)
        kernels.forward(x, basis)
        y = kernels.mod_down(kernels.multiply(x, x, basis), basis, 1)
        kernels.inverse(y, basis[:-1])
        results.append(y.tobytes())
    return results[0] == results[1]


def main() -> int:
    """Print it; the exit status says whether all is well."""
    try:
        chosen, count = choice.chosen(), threads.count()
    except BackendUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    passed = {name: self_test(name) for name in choice.available()}
    print(f"library    {library_path() if len(passed) > 1 else 'not compiled'}")
    print(f"kernels    {chosen}" + (f" ({choice.VARIABLE})" if os.environ.get(choice.VARIABLE) else ""))
    print(f"threads    {count}")
    for name, right in passed.items():
        print(f"self-test  {name}: {'passed' if right else 'FAILED'}")
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
