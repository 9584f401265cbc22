"""A process that runs cells with the code of one commit, as its parent asks: one line of JSON in, one out.

It is started by path, with ``-S`` and the folders to import from as its argument, so that nothing of the checkout it
lies in is imported but ``benchmarks/shim.py`` and modules of ``bench`` that import nothing of it. What libraries print
goes to standard error.

Requests: ``plan`` (counts and parameters of a cell), ``time`` (wall time of some runs), ``run`` (one run: phases, time
inside the library, bytes, precision), ``ahead`` (batches and requests of a cell that runs ahead of time), ``predict``
(its time by the backend's profile), ``close`` (forget its keys), ``peak`` (memory of this process), ``operations`` (one
round of single operations), ``overhead`` (the cost of Python). A cell's keys are made by the first request that needs
them. Where ``private`` is true its plan keeps the weights private. A failed request answers ``{"error": …}``; if
something is absent rather than broken also has ``"absent": true``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

Request = dict[str, Any]


def _beside(folder: str, name: str) -> Any:
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), folder)
    path = os.path.join(beside, f"{name}.py")
    if folder not in sys.modules:  # what lies in a folder imports each other by these names
        sys.modules[folder] = ModuleType(folder)
        sys.modules[folder].__path__ = [beside]
    spec = spec_from_file_location(f"{folder}.{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the types they name
    setattr(sys.modules[folder], name, module)
    spec.loader.exec_module(module)
    return module


class Worker:
    """Answers requests; keeps every cell that was opened."""

    def __init__(self) -> None:
        self._shim = _beside("benchmarks", "shim")
        self._open: dict[str, Any] = {}
        self._operations_of: dict[tuple[Any, ...], Any] = {}
        self._null: Any = None

    def answer(self, request: Request) -> Request:
        """The answer to a request, or the reason why there is none."""
        try:
            do: Callable[[Request], Request] = getattr(self, f"_{request['do']}")
            return do(request)
        except NotImplementedError as error:
            return {"error": str(error), "absent": True}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _plan(self, request: Request) -> Request:
        _, packing, shape, tokens = request["cell"]
        return self._told(self._shim.compiled(packing, shape, tokens=tokens, private=request.get("private", False)))

    def _told(self, plan: Any) -> Request:
        shim = self._shim
        return {"counts": shim.plan_counts(plan), "plan": shim.plan_facts(plan), "bytes": shim.plan_bytes(plan)}

    def _opened(self, request: Request) -> Any:
        private, name = request.get("private", False), _name(request)
        if name not in self._open:
            self._open[name] = self._shim.Prepared(*request["cell"], seed=request.get("seed"), private=private)
        return self._open[name]

    def _close(self, request: Request) -> Request:
        self._open.pop(_name(request), None)
        return {}

    def _time(self, request: Request) -> Request:
        prepared = self._opened(request)
        for _ in range(request["warm"]):
            prepared.run()
        return {"ns": sum(prepared.timed_ns() for _ in range(request["repeat"]))}

    def _run(self, request: Request) -> Request:
        prepared = self._opened(request)
        before, messages = prepared.elapsed_ns(), prepared.transport_ns
        run = prepared.run()
        inside = {name: ns - before.get(name, 0) for name, ns in prepared.elapsed_ns().items()}
        phases = {name: getattr(run.times, name) for name in ("encrypt", "compute", "decrypt")}
        return {
            **self._told(prepared.plan),
            "library": prepared.library,
            "library_version": prepared.library_version,
            "provides_security": prepared.provides_security,
            "phases_ns": phases,
            "inside_ns": inside,
            "transport_ns": prepared.transport_ns - messages,
            "inner": self._shim.inner_counts(run),
            "bytes_up": run.bytes_up,
            "bytes_down": run.bytes_down,
            "precision_bits": prepared.precision_bits(run.delta),
        }

    def _ahead(self, request: Request) -> Request:
        backend, packing, shape, _ = request["cell"]
        name = _name(request)
        if name not in self._open:
            self._open[name] = _beside("benchmarks", "shim_ahead").PreparedAhead(backend, packing, shape)
        prepared = self._open[name]
        return {
            **self._told(prepared.plan),
            "library": prepared.library,
            "library_version": prepared.library_version,
            "provides_security": prepared.provides_security,
            **prepared.figures(request["requests"]),
        }

    def _predict(self, request: Request) -> Request:
        return {"ms": self._opened(request).predicted_ms()}

    def _peak(self, request: Request) -> Request:
        try:
            import resource
        except ImportError as error:
            raise NotImplementedError("this system does not report a process's peak memory") from error
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"rss_bytes": kilobytes if sys.platform == "darwin" else 1024 * kilobytes}

    def _overhead(self, request: Request) -> Request:
        if self._null is None:
            self._null = _beside("bench", "null_library")
        return dict(self._null.overhead(self._shim, *request["cell"]))

    def _operations(self, request: Request) -> Request:
        asked = (request["backend"], request["ring"], request["depth"])
        if asked not in self._operations_of:
            self._operations_of[asked] = _beside("bench", "operations").Operations(*asked)
        return dict(self._operations_of[asked].round())


def _name(request: Request) -> str:
    return json.dumps([*request["cell"], request.get("private", False)])


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
