"""What the functions of ``native/helora_rns.h`` take and return, for ctypes."""

from __future__ import annotations

import ctypes

_POINTER, _NUMBER, _WORD = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32
SIGNATURES = {
    "hr_forward": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER],
    "hr_inverse": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER],
    "hr_add": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_sub": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_negate": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER],
    "hr_multiply": [_POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_multiply_add": [_POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER, _POINTER],
    "hr_times": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_dot": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER, _NUMBER],
    "hr_gemm": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER, _NUMBER, _NUMBER, _WORD, _POINTER],
    "hr_permute": [_POINTER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_of_doubles": [_POINTER, _POINTER, _NUMBER, _POINTER, _POINTER],
    "hr_to_doubles": [_POINTER, _POINTER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_mod_down": [_POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_decompose": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_rotate": [_POINTER, _POINTER, _NUMBER, _NUMBER, _NUMBER, *[_POINTER] * 6],
    "hr_run": [_POINTER, _POINTER, _NUMBER, _POINTER, _POINTER, _POINTER],
    "hr_ring_make": [_POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _WORD],
    "hr_binomial": [_POINTER, _POINTER, _POINTER, _NUMBER],
    "hr_values_of_doubles": [_POINTER, _POINTER, _NUMBER, _POINTER, _POINTER],
    "hr_normal": [_POINTER, _POINTER, _POINTER, _NUMBER],
    "hr_random_bits": [_POINTER, _POINTER, _NUMBER, _WORD],
    "hr_of_parts": [_POINTER, _POINTER, _NUMBER, _POINTER, _POINTER, _POINTER, _NUMBER],
    "hr_pack": [_POINTER, _POINTER, _NUMBER, _WORD],
    "hr_unpack": [_POINTER, _POINTER, _NUMBER, _WORD],
    "hr_words_gemm": [_POINTER] * 4 + [_NUMBER] * 3 + [_WORD, _POINTER],
    "hr_words_encrypted": [_POINTER, _NUMBER, *[_POINTER] * 5, _NUMBER, _POINTER, _POINTER],
    "hr_words_randomised": [_POINTER, _NUMBER, *[_POINTER] * 9],
    "hr_words_quotient": [_POINTER, _NUMBER, *[_POINTER] * 3, _NUMBER, _POINTER, _WORD],
    "hr_words_opened": [
        _POINTER,
        _WORD,
        _POINTER,
        _POINTER,
        _NUMBER,
        _NUMBER,
        _POINTER,
        _POINTER,
        _WORD,
        _WORD,
        _POINTER,
    ],
    "hr_words_pack_weights": [_POINTER, _POINTER, _NUMBER, _NUMBER],
    "hr_words_answer": [*[_POINTER] * 4, _NUMBER, _WORD, _POINTER],
    "hr_words_padded": [*[_POINTER] * 4, _NUMBER, _NUMBER],
    "hr_words_revealed": [*[_POINTER] * 4, _NUMBER, _NUMBER, _WORD, _WORD],
    "hr_slots_to_coefficients": [_POINTER] * 3 + [_NUMBER, _NUMBER, _POINTER, _POINTER, ctypes.c_double],
    "hr_coefficients_to_slots": [_POINTER] * 5 + [ctypes.c_double],
}
"""Arguments of functions that return nothing."""

RETURNING = {
    "hr_abi": (_WORD, []),
    "hr_supported": (_WORD, []),
    "hr_ring_bytes": (_NUMBER, [_NUMBER, _NUMBER, _WORD]),
    "hr_gemm_words": (_NUMBER, [_NUMBER, _NUMBER]),
    "hr_words_trimmed": (
        _WORD,
        [_POINTER, _NUMBER, *[_POINTER] * 5, _NUMBER, _POINTER, _WORD, _WORD, _POINTER],
    ),
    "hr_words_unpack": (_WORD, [_POINTER, _NUMBER, _POINTER, _POINTER, _POINTER]),
    "hr_words_gemm_words": (_NUMBER, [_NUMBER]),
    "hr_words_answer_words": (_NUMBER, [_POINTER]),
    "hr_ternary": (_NUMBER, [_POINTER, _NUMBER, _POINTER, _NUMBER]),
    "hr_uniform": (_NUMBER, [_POINTER, _WORD, _POINTER, _NUMBER, _POINTER, _NUMBER, _POINTER]),
}
"""What the others return, and their arguments."""
