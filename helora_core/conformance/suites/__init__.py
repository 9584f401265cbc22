"""The laws, one suite per file, each to be read as a specification. Test names are unique: they are the laws' ids."""

from __future__ import annotations

from helora_core.conformance.suites.arithmetic import Arithmetic
from helora_core.conformance.suites.attacks import Attacks
from helora_core.conformance.suites.bad_input import BadInput
from helora_core.conformance.suites.concurrency import Concurrency
from helora_core.conformance.suites.contract import Contract
from helora_core.conformance.suites.correlations import Correlations
from helora_core.conformance.suites.encodings import Encodings
from helora_core.conformance.suites.encryption import Encryption
from helora_core.conformance.suites.every_level import EveryLevel
from helora_core.conformance.suites.independence import Independence
from helora_core.conformance.suites.ledger import LedgerCounts
from helora_core.conformance.suites.levels import LevelsAndScales
from helora_core.conformance.suites.lora import LoRAEndToEnd
from helora_core.conformance.suites.noise import Noise
from helora_core.conformance.suites.programs import Programs
from helora_core.conformance.suites.rotation import Rotation
from helora_core.conformance.suites.serialization import Serialization
from helora_core.conformance.suites.sessions import Sessions
from helora_core.conformance.suites.short_results import ShortResults

SUITES: tuple[type, ...] = (
    Contract,
    Encodings,
    Arithmetic,
    Rotation,
    LevelsAndScales,
    EveryLevel,
    Encryption,
    Sessions,
    Serialization,
    BadInput,
    Concurrency,
    Noise,
    Independence,
    Attacks,
    ShortResults,
    Correlations,
    LoRAEndToEnd,
    Programs,
    LedgerCounts,
)
"""The suites, in the order in which reports show them."""
