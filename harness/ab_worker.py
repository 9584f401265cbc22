"""A process that runs cells with the code of one commit, as its parent asks: one line of JSON in, one out.

It is started by path, with ``-S`` and the folders to import from as its argument, so that nothing of the checkout it
lies in is imported but ``benchmarks/shim.py``. What libraries print goes to standard error.

Requests: ``plan`` (counts and parameters of a cell), ``open`` (make its keys), ``time`` (wall time of some runs),
``run`` (one run: phases, bytes, precision). A request that cannot be done answers ``{"error": …}``; what is absent
rather than broken also has ``"absent": true``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

Request = dict[str, Any]


def _shim() -> Any:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "benchmarks", "shim.py")
    spec = spec_from_file_location("helora_shim", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Worker:
    """Answers requests; keeps every cell that was opened."""

    def __init__(self) -> None:
        self._shim = _shim()
        self._open: dict[str, Any] = {}

    def answer(self, request: Request) -> Request:
        """What a request gives, or why it gives nothing."""
        try:
            do: Callable[[Request], Request] = getattr(self, f"_{request['do']}")
            return do(request)
        except NotImplementedError as error:
            return {"error": str(error), "absent": True}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _plan(self, request: Request) -> Request:
        _, packing, shape, _ = request["cell"]
        return self._told(self._shim.compiled(packing, shape))

    def _told(self, plan: Any) -> Request:
        shim = self._shim
        return {"counts": shim.plan_counts(plan), "plan": shim.plan_facts(plan), "bytes": shim.plan_bytes(plan)}

    def _open_cell(self, cell: list[Any], seed: int | None) -> Any:
        name = json.dumps(cell)
        if name not in self._open:
            self._open[name] = self._shim.Prepared(*cell, seed=seed)
        return self._open[name]

    def _opened(self, request: Request) -> Any:
        return self._open_cell(request["cell"], request.get("seed"))

    def _close(self, request: Request) -> Request:
        self._open.pop(json.dumps(request["cell"]), None)
        return {}

    def _time(self, request: Request) -> Request:
        prepared = self._opened(request)
        for _ in range(request["warm"]):
            prepared.run()
        return {"ns": sum(prepared.timed_ns() for _ in range(request["repeat"]))}

    def _run(self, request: Request) -> Request:
        prepared = self._opened(request)
        run = prepared.run()
        phases = {name: getattr(run.times, name) for name in ("encrypt", "compute", "decrypt")}
        return {
            **self._told(prepared.plan),
            "library": prepared.library,
            "library_version": prepared.library_version,
            "provides_security": prepared.provides_security,
            "phases_ns": phases,
            "bytes_up": run.bytes_up,
            "bytes_down": run.bytes_down,
            "precision_bits": prepared.precision_bits(run.delta),
        }


def main() -> None:
    """Answer the lines of standard input until it ends."""
    sys.path[:1] = json.loads(sys.argv[1])  # in place of the folder that this file is in
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
