"""The types of all errors that helora raises.

An error says what was refused and by whom (its message), what to do next (its ``hint``) and carries a stable
machine-readable ``code``, which is what scripts and the JSON output should match on: messages may be reworded,
codes may not.
"""

from __future__ import annotations

from typing import ClassVar


class HeloraError(Exception):
    """Base of all refusals.

    Args:
        message: What was refused, and who refused it.
        hint: What the user can do next, as a full sentence.
    """

    code: ClassVar[str] = "helora-error"

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} [{self.code}] Hint: {self.hint}"


class PluginLoadError(HeloraError):
    """A plugin could not be imported or does not fit the hooks."""

    code = "plugin-load-error"


class PluginConflict(HeloraError):
    """Two plugins claim the same name."""

    code = "plugin-conflict"


class BackendUnavailable(HeloraError):
    """The backend is unknown, or its library is missing or broken."""

    code = "backend-unavailable"


class NothingEligible(HeloraError):
    """No packing meets the constraints on any backend."""

    code = "nothing-eligible"


class NoCommonParameters(HeloraError):
    """Plans for several numbers of tokens cannot run under one key set."""

    code = "no-common-parameters"


class HopelessPacking(HeloraError):
    """A packing costs so much more than another that it was not compiled."""

    code = "hopeless-packing"


class ProgramTooLarge(HeloraError):
    """A module, or the program that a packing makes from it, is larger than anything that could be run."""

    code = "program-too-large"


class PackingUnavailable(HeloraError):
    """No installed plugin offers a packing of that name."""

    code = "packing-unavailable"


class CapabilityMissing(HeloraError):
    """The plan needs something that the backend cannot do."""

    code = "capability-missing"


class InsecureParameters(HeloraError):
    """The parameters fall short of the security asked for."""

    code = "insecure-parameters"


class InvalidParameters(HeloraError):
    """The parameters make no sense for CKKS, whatever their security, or no ring meets the requirement."""

    code = "invalid-parameters"


class InvalidInput(HeloraError):
    """Values have the wrong shape or dtype, or are not finite; or a file, option or call is not usable."""

    code = "invalid-input"


class SlotOverflow(HeloraError):
    """More values than a ciphertext has slots."""

    code = "slot-overflow"


class ScaleMismatch(HeloraError):
    """Two operands whose scales differ cannot be added."""

    code = "scale-mismatch"


class LevelMismatch(HeloraError):
    """Two operands are at different levels of the modulus chain."""

    code = "level-mismatch"


class LevelExhausted(HeloraError):
    """No prime is left to rescale by."""

    code = "level-exhausted"


class MissingRotationKey(HeloraError):
    """No Galois key was made for exactly this rotation step."""

    code = "missing-rotation-key"


class ForeignCiphertext(HeloraError):
    """The ciphertext belongs to other keys, parameters or another backend."""

    code = "foreign-ciphertext"


class CorruptPayload(HeloraError):
    """Serialised bytes are truncated, altered or of an unknown format."""

    code = "corrupt-payload"


class VersionMismatch(HeloraError):
    """Bytes are whole, but of another version of a library or of helora than the one that is to read them."""

    code = "version-mismatch"


class UnexpectedMessage(HeloraError):
    """A message is intact but not expected now: it belongs to an unknown request, or comes out of turn."""

    code = "unexpected-message"


class LimitExceeded(HeloraError):
    """A server holds as many sessions, requests or bytes as it may, or a store as many bytes."""

    code = "limit-exceeded"


class ConnectionLost(HeloraError):
    """The other party cannot be reached, or the connection to it has ended: what was asked has no answer."""

    code = "connection-lost"


class AccessRefused(HeloraError):
    """The server does not know who asks, or does not serve them."""

    code = "access-refused"


class PoolEmpty(HeloraError):
    """Fewer correlations are prepared than a request takes."""

    code = "pool-empty"


class CorrelationUsed(HeloraError):
    """A correlation may have been used already, or is not there (any more): it serves no second message."""

    code = "correlation-used"


class NotDurable(HeloraError):
    """A message may not leave, since what has to outlive a crash before it does is not known to be written."""

    code = "not-durable"


class RolledBack(HeloraError):
    """A store is older than its anchor says, or not the one that the anchor is for: it may bring used indices back."""

    code = "rolled-back"


class AdapterFormatError(HeloraError):
    """The adapter's files are damaged, or hold something that is not plain LoRA."""

    code = "adapter-format-error"


class ArtifactInvalid(HeloraError):
    """The artifact is damaged or altered, or not an artifact: its files are not those that its manifest lists."""

    code = "artifact-invalid"


class ArtifactUnsupported(HeloraError):
    """The artifact is whole, but was made by another version of helora or of a packing than is installed."""

    code = "artifact-unsupported"


class InvalidProgram(HeloraError):
    """A compiled program breaks a rule of CKKS (a fault of a packing or a pass, not of the user's data)."""

    code = "invalid-program"


class BudgetExceeded(HeloraError):
    """The plan, or its execution, costs more than was allowed."""

    code = "budget-exceeded"


class LedgerMismatch(HeloraError):
    """The operations executed are not those that the plan predicted."""

    code = "ledger-mismatch"


class PrecisionLost(HeloraError):
    """The result is, or would be, less precise than was asked for."""

    code = "precision-lost"


class LeakageRefused(HeloraError):
    """The packing reveals more than the caller allowed."""

    code = "leakage-refused"


class ProfileMissing(HeloraError):
    """The backend was not calibrated here, or not for these parameters or this operation."""

    code = "profile-missing"
