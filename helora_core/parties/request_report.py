"""What a request took: operations, wall time by phase, bytes and round trips."""

from __future__ import annotations

import msgspec

from helora_core.backend.ledger import InnerCounts, OperationCounts
from helora_core.compiler.rounds import Phase


class PhaseTimes(msgspec.Struct):
    """Wall time in nanoseconds, without the network.

    Attributes:
        encrypt: At the client: pack, encrypt, serialise.
        compute: At the server: read, execute the program, serialise.
        decrypt: At the client: read, decrypt, unpack; and encrypt answers between rounds.
    """

    encrypt: int = 0
    compute: int = 0
    decrypt: int = 0

    @property
    def total(self) -> int:
        """All phases."""
        return self.encrypt + self.compute + self.decrypt


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The operations, times and bytes of a request.

    Attributes:
        executed: Operations by the ledgers of both sides; equal to the plans' predictions.
        inner: What the server's library took for key switches inside whole programs, if it says.
        times: Wall time per phase.
        bytes_up: Bytes of the messages that the client sent, each once.
        bytes_down: Bytes of the messages that it received.
        round_trips: Messages up and down.
        phase: Whether it was a preparation, ahead of time, or a request.
        correlations: How many it made, or used.
    """

    executed: OperationCounts
    times: PhaseTimes
    bytes_up: int
    bytes_down: int
    round_trips: int
    phase: Phase = Phase.ONLINE
    correlations: int = 0
    inner: InnerCounts = InnerCounts()

    def plus(self, other: Report) -> Report:
        """Both reports together; they are of one phase."""
        return Report(
            executed=self.executed.plus(other.executed),
            inner=self.inner.plus(other.inner),
            times=PhaseTimes(
                encrypt=self.times.encrypt + other.times.encrypt,
                compute=self.times.compute + other.times.compute,
                decrypt=self.times.decrypt + other.times.decrypt,
            ),
            bytes_up=self.bytes_up + other.bytes_up,
            bytes_down=self.bytes_down + other.bytes_down,
            round_trips=self.round_trips + other.round_trips,
            phase=self.phase,
            correlations=self.correlations + other.correlations,
        )
