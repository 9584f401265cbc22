"""A module's plaintexts on disk: the very vectors that the packing made, as float64 in one safetensors file.

If k tokens are interleaved, each number comes k times in a row. Such a vector is stored as a column, n × 1; k
follows from n and the number of places in a ciphertext.

Writing holds one vector in memory, reading one module. The header's room is reserved before the first vector is
known, from the plan's names alone; unneeded room is filled with spaces, which the format allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from helora_core.artifact.files import damaged
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.ir import ConstantSpec, OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidProgram
from helora_core.files.malformed import Malformed
from helora_core.files.safetensors import Tensor, parse_tensors
from helora_core.packing.protocol import Vector

_WIDTH = 8
_LARGEST = 10**15
"""The largest possible offset in a file, for which the header's room is reserved."""


def write_constants(
    file: BinaryIO, plan: Plan, vectors: Iterable[tuple[str, Vector]], on_constant: Callable[[int], object]
) -> None:
    """Write the ``vectors`` that the plan names, in the order in which they come.

    Args:
        file: Open for writing, at its start.
        plan: The plan.
        vectors: As ``plan.layout.constants`` gives them.
        on_constant: Called with 1 for each that is written.

    Raises:
        InvalidProgram: A name has no vector or two of them, or a value is not a vector of finite numbers.
    """
    specs = plan.constant_specs
    room = header_room(specs)
    file.write(bytes(_WIDTH + room))
    header: dict[str, object] = {}
    offset = 0
    for name, vector in vectors:
        if name not in specs:
            continue
        if name in header or vector.ndim != 1 or not np.isfinite(vector).all():
            raise _fault(plan, f"constant {name!r} comes twice, or is not a vector of finite numbers")
        stored = _without_repetition(vector.astype("<f8", copy=False), places(plan, specs[name]))
        blob = stored.tobytes()
        file.write(blob)
        header[name] = _entry(stored.shape, offset, offset + len(blob))
        offset += len(blob)
        on_constant(1)
    if len(header) != len(specs):
        raise _fault(plan, f"there is no constant {next(name for name in specs if name not in header)!r}")
    file.seek(0)
    file.write(room.to_bytes(_WIDTH, "little") + msgspec.json.encode(header).ljust(room))


def header_room(specs: Iterable[str]) -> int:
    """Upper bound on the header's bytes with these names, a multiple of 8 so that the data is aligned."""
    entry = len(msgspec.json.encode(_entry((_LARGEST, 1), _LARGEST, _LARGEST)))
    room = 2 + sum(len(msgspec.json.encode(name)) + 2 + entry for name in specs)
    return room + -room % _WIDTH


def most_bytes(plan: Plan) -> int:
    """Upper bound on the bytes of a plan's file."""
    longest = max(places(plan, spec) for spec in plan.constant_specs.values()) if plan.constant_specs else 0
    return _WIDTH + header_room(plan.constant_specs) + _WIDTH * longest * len(plan.constant_specs)


def places(plan: Plan, spec: ConstantSpec) -> int:
    """The most numbers a plaintext can have; a vector of single numbers has one for each feature of some block."""
    if spec.encoding is Encoding.SCALAR:
        return max(plan.params.ring_degree, plan.shape.d_in, plan.shape.d_out)
    return plan.params.ring_degree if spec.encoding is Encoding.COEFFICIENTS else plan.params.slots


def read_constants(data: bytes, plan: Plan, path: Path) -> Iterator[tuple[str, Vector]]:
    """The vectors in a file, in the order in which the plan's program first uses them.

    Raises:
        ArtifactInvalid: The file does not hold exactly the plan's constants, or one is not a vector of finite numbers
            as long as the program needs.
    """
    try:
        tensors, metadata = parse_tensors(data, most_header=header_room(plan.constant_specs))
    except Malformed as error:
        raise damaged(path, error.reason) from error
    if metadata:
        raise damaged(path, "has metadata, which artifacts do not have")
    if tensors.keys() != plan.constant_specs.keys():
        wrong = sorted(tensors.keys() ^ plan.constant_specs.keys())[0]
        raise damaged(path, f"does not hold the constants of its plan ({wrong!r} is one too many or too few)")
    needed = _numbers_read(plan)
    for name, spec in plan.constant_specs.items():
        vector = _vector(tensors.pop(name), places(plan, spec))
        if vector is None or vector.size < needed.get(name, 1) or not np.isfinite(vector).all():
            raise damaged(path, f"constant {name!r} is not a vector of finite float64, or is too long or too short")
        yield name, vector


def _vector(tensor: Tensor, room: int) -> Vector | None:
    """The vector that a tensor stands for, if it is one and fits into ``room`` places."""
    shape = tensor.shape
    if tensor.dtype != "F64" or len(shape) not in (1, 2) or not 0 < shape[0] <= room:
        return None
    stored = np.frombuffer(tensor.data, dtype="<f8").astype(np.float64, copy=False)
    if len(shape) == 1:
        return stored
    return np.repeat(stored, room // shape[0]) if shape[1] == 1 and room % shape[0] == 0 else None


def _numbers_read(plan: Plan) -> dict[str, int]:
    """For each vector of numbers, how many the program reads."""
    read: dict[str, int] = {}
    for op in plan.program.ops:
        if op.kind is OpKind.DOT_SCALARS:
            read[op.constant] = max(read.get(op.constant, 0), max(op.positions) + 1)
    return read


def _without_repetition(vector: Vector, room: int) -> Vector:
    """A vector that fills the ``room`` with runs of equal numbers as the column of these, else the vector itself."""
    bits, run = vector.view("<i8"), 1
    while vector.size == room and room % (2 * run) == 0 and np.array_equal(bits[:: 2 * run], bits[run :: 2 * run]):
        run *= 2
    return vector if run == 1 else vector[::run, np.newaxis]


def _entry(shape: tuple[int, ...], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F64", "shape": shape, "data_offsets": (start, end)}


def _fault(plan: Plan, what: str) -> InvalidProgram:
    return InvalidProgram(
        f"Packing {plan.packing.name} {plan.shape}: {what}.", hint="Report this to the author of the packing."
    )
