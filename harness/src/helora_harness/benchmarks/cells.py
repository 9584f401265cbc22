"""The cells that asv knows: few, since its runner starts a process for each metric of each."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.shim import VERSION, NotThere, Prepared, compiled, plan_bytes, plan_counts
from benchmarks.shim_ahead import PreparedAhead


class _OfPlan:
    """Counts of a plan. No backend and no clock."""

    version = VERSION
    param_names: ClassVar = ["packing", "shape"]
    params: ClassVar = [
        ["rank_bsgs", "zero_moai", "halevi_shoup_bsgs", "cheetah"],
        ["512:512:8", "1536:1536:16", "4096:4096:16"],
    ]
    timeout = 120

    def setup(self, packing: str, shape: str) -> None:
        self.plan = compiled(packing, shape)


class Counts(_OfPlan):
    """Operations of one run."""

    def _track(self, name: str) -> int:
        return int(plan_counts(self.plan).get(name, 0))

    def track_rotations(self, packing: str, shape: str) -> int:
        return self._track("rotations")

    def track_keyswitches(self, packing: str, shape: str) -> int:
        return self._track("keyswitches")

    def track_rescales(self, packing: str, shape: str) -> int:
        return self._track("rescales")

    def track_ct_pt(self, packing: str, shape: str) -> int:
        return self._track("ct_pt")

    def track_rotation_keys(self, packing: str, shape: str) -> int:
        return len(self.plan.rotation_steps)


class Bytes(_OfPlan):
    """What a run moves and keys take, by the plan."""

    def setup(self, packing: str, shape: str) -> None:
        super().setup(packing, shape)
        self.bytes = plan_bytes(self.plan)
        if not self.bytes:
            raise NotThere("this commit cannot say how many bytes a plan takes")

    def _track(self, name: str) -> int:
        return int(self.bytes[name])

    def track_bytes_up(self, packing: str, shape: str) -> int:
        return self._track("bytes_up")

    def track_bytes_down(self, packing: str, shape: str) -> int:
        return self._track("bytes_down")

    def track_bytes_keys(self, packing: str, shape: str) -> int:
        return self._track("bytes_keys")


for _name in ("track_bytes_up", "track_bytes_down", "track_bytes_keys"):
    getattr(Bytes, _name).unit = "bytes"


class _OfRun:
    """Encrypted runs. A backend that is missing here, or at that commit, is n/a."""

    version = VERSION
    param_names: ClassVar = ["backend", "packing", "shape"]
    params: ClassVar = [["numpy", "tenseal", "openfhe", "pyfhel"], ["rank_bsgs", "zero_moai"], ["512:512:8"]]
    timeout = 300

    def setup(self, backend: str, packing: str, shape: str) -> None:
        self.prepared = Prepared(backend, packing, shape, 1)


class Precision(_OfRun):
    """Bits of a float64 result that noise took."""

    def track_lost_bits(self, backend: str, packing: str, shape: str) -> float:
        return 53 - float(self.prepared.precision_bits(self.prepared.run().delta))


Precision.track_lost_bits.unit = "bits"  # type: ignore[attr-defined]


class Clock(_OfRun):
    """Wall time and memory of one token, both ways. For a verdict on two commits use ``ab.py``."""

    processes = 2
    rounds = 2
    warmup_time = 0.1
    min_run_count = 3

    def time_token(self, backend: str, packing: str, shape: str) -> None:
        self.prepared.run()

    def peakmem_token(self, backend: str, packing: str, shape: str) -> None:
        self.prepared.run()


class Ahead:
    """Plans that run ahead of time: a batch, spread over its tokens, and one token online, through both parties.

    The emulation is measured on a small module: a batch of a larger one takes it minutes.
    """

    version = VERSION
    param_names: ClassVar = ["backend", "packing", "shape"]
    params: ClassVar = [["numpy", "rns"], ["precomputed", "precomputed_exact"], ["64:64:4", "576:768:16"]]
    timeout = 300

    def setup(self, backend: str, packing: str, shape: str) -> None:
        if (backend, shape) == ("numpy", "576:768:16"):
            raise NotThere("a batch of the emulation takes minutes")
        self.prepared = PreparedAhead(backend, packing, shape)
        self.prepared.prepare()

    def track_ahead_ms_per_token(self, backend: str, packing: str, shape: str) -> float:
        return float(self.prepared.ahead_ms_per_token())

    def track_online_us_per_token(self, backend: str, packing: str, shape: str) -> float:
        return float(self.prepared.online_us_per_token())

    def track_lost_bits(self, backend: str, packing: str, shape: str) -> float:
        return 53 - float(self.prepared.precision_bits(self.prepared.ask().delta))


for _name, _unit in (("ahead_ms_per_token", "ms"), ("online_us_per_token", "µs"), ("lost_bits", "bits")):
    getattr(Ahead, f"track_{_name}").unit = _unit
