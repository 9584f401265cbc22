"""Encodes plaintexts without keys, so that a server encodes its weights once for all its clients."""

from __future__ import annotations

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import CheckedBackend, checked
from helora_core.backend.checked_programs import CheckedExecutable, runs_programs
from helora_core.backend.encodings import checked_native
from helora_core.backend.handles import Plaintext
from helora_core.backend.protocol import Backend, SupportsPrograms, Values
from helora_core.backend.tape import Tape
from helora_core.errors import CapabilityMissing, InvalidInput
from helora_core.params.ckks import CKKSParams


class PlaintextEncoder:
    """Makes plaintexts that work with the ciphertexts of any key pair of these parameters, in this process.

    Attributes:
        params: The resolved parameters.
        capabilities: The backend's capabilities.
        family: The family of the plaintexts; all plaintexts of one family are interchangeable.
    """

    def __init__(self, backend: Backend | CheckedBackend, params: CKKSParams) -> None:
        self._backend = checked(backend)
        self._encoder = self._backend.encoder(self._backend.resolve(params))
        self.params = self._encoder.params
        self.family = self._encoder.family
        self.capabilities = self._encoder.capabilities

    def encode(self, values: Values, *, level: int, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Plaintext:
        """Encode a vector for ciphertexts at ``level``.

        Args:
            values: float64, or complex128 for complex slots; at most N/2 slots or N coefficients.
            level: Rescales that the ciphertexts have left.
            scale_bits: log2 of the scale.
            encoding: How the values are encoded.

        Raises:
            InvalidInput, SlotOverflow: The values are refused, before any library sees them.
            CapabilityMissing: The backend does not have the encoding, and core cannot make it from another.
            LevelExhausted: There is no such level.
            PrecisionLost: The values do not fit the modulus.
        """
        scale = scale_of(scale_bits, self.params)
        native, taken = checked_native(
            values, encoding, self.capabilities, self.params, level=level, scale=scale, who="PlaintextEncoder.encode"
        )
        return self._encoder.encode(taken, level=level, scale=scale, encoding=native)

    @property
    def prepares(self) -> bool:
        """Whether the backend runs whole programs. One with a unit does not, since its scales are tracked by core."""
        return self._encoder.unit is None and runs_programs(self.capabilities)

    def prepare(self, tape: Tape) -> CheckedExecutable:
        """Prepare a tape to run with these plaintexts; only for a backend that ``prepares``."""
        library = self._backend.library
        if not isinstance(library, SupportsPrograms) or not self.prepares:
            raise CapabilityMissing(
                f"{self._backend.name}: this backend runs programs operation by operation.",
                hint="Choose a backend with the capability programs; `helora backends` lists what each can do.",
            )
        return CheckedExecutable(library.prepare(self.params, tape), tape, self.family)


def scale_of(scale_bits: int, params: CKKSParams) -> float:
    """The scale 2^scale_bits, if a value of 1 at that scale fits the modulus.

    Raises:
        InvalidInput: It does not.
    """
    if not 0 <= scale_bits < params.data_modulus_bits:
        raise InvalidInput(
            f"A scale of 2^{scale_bits} does not fit a modulus of {params.data_modulus_bits} bits.",
            hint="Use the plan's scales.",
        )
    return 2.0**scale_bits
