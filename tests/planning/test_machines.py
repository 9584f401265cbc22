"""Of several calibrated backends, the one that all jobs together are cheapest on is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.request import Constraints
from helora_core.errors import NothingEligible
from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend, best_machine, choose, rank
from tests.planning.conftest import MakeProfile, asked, packings, times


class TestMachines:
    def test_the_cheaper_backend_is_taken(self, make_profile: MakeProfile) -> None:
        backend = get_manager().load_backend("numpy")
        jobs = [asked(4)]
        for faster in ("left", "right"):
            machines = {
                name: CalibratedBackend(backend, make_profile(time=times(rotate_first=1 if name == faster else 2)))
                for name in ("left", "right")
            }
            assert best_machine(jobs, machines, packings("rank_bsgs")) == faster

    def test_all_jobs_count_and_as_often_as_they_come(self, make_profile: MakeProfile) -> None:
        """One machine encrypts quickly, which wide modules gain by; the other rotates quickly."""
        backend = get_manager().load_backend("numpy")
        machines = {
            "encrypts": CalibratedBackend(
                backend, make_profile(time=times(encrypt_slots=1, rotate_first=3, rotate_further=3))
            ),
            "rotates": CalibratedBackend(
                backend, make_profile(time=times(encrypt_slots=60, rotate_first=1, rotate_further=1))
            ),
        }
        wide, narrow = (synthetic_module(ModuleShape.parse(shape), seed=1) for shape in ("8000:64:4", "64:64:64"))

        def best(*jobs: Any) -> str:
            return best_machine([asked(1, module=job) for job in jobs], machines, packings("rank_bsgs"))

        assert best(wide) == "encrypts"
        totals = {
            name: sum(
                choose(rank(asked(1, module=job), {name: machine}, packings("rank_bsgs"))).cost
                for job in (wide, narrow, narrow)
            )
            for name, machine in machines.items()
        }
        assert best(wide, narrow, narrow) == min(totals, key=lambda name: totals[name])

    def test_one_alone_is_taken_unseen(self) -> None:
        machines = {"only": CalibratedBackend(None, None)}
        assert best_machine([asked(1)], machines, []) == "only"

    def test_a_job_that_no_machine_can_run_is_refused(self, calibrated: Callable[..., CalibratedBackend]) -> None:
        machines = {"left": calibrated(), "right": calibrated()}
        with pytest.raises(NothingEligible, match=r"zero_moai on left.*zero_moai on right"):
            best_machine([asked(1, Constraints())], machines, packings("zero_moai"))
