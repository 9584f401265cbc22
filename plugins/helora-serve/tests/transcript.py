"""The transcripts in docs/protocol.md, of real clients and servers: ``python transcript.py`` renews them."""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.errors import CorruptPayload, UnexpectedMessage
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.server import Server
from helora_serve.catalogue import fixed
from helora_serve.client import connect
from helora_serve.client.wire import Wire
from helora_serve.frames import Resume, decode_from_client, decode_from_server
from helora_serve.host import Host
from helora_serve.service import Service
from helora_serve.split import frames as split_frames
from helora_serve.split.client import connect_split

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"
MARKS = {
    each: (f"<!-- {name}: begin -->", f"<!-- {name}: end -->")
    for each, name in ((False, "transcript"), (True, "split transcript"))
}
_SHOWN = 24
_SHAPE = ModuleShape.parse("24:20:3")
_STEP = re.compile(
    r"(client|server): `(.*?)`\n\n```text\n([0-9a-f \n]+?)(?:\n\+ (\d+) bytes: ([0-9a-f ]+) …)?\n```"
    r"|(\*The socket is cut)"
)


class Step(NamedTuple):
    """One frame, or the end of a socket.

    Attributes:
        way: ``client``, ``server``, or ``cut``.
        head: Length and header, as they are sent.
        payload_bytes: Bytes of the payload.
        payload: Its first ones.
        split: Whether it is of mode ``split``.
    """

    way: str
    head: bytes = b""
    payload_bytes: int = 0
    payload: bytes = b""
    split: bool = False

    @property
    def header(self) -> Any:
        """The header."""
        decode: Any
        if self.split:
            decode = split_frames.decode_from_client if self.way == "client" else split_frames.decode_from_server
        else:
            decode = decode_from_client if self.way == "client" else decode_from_server
        return decode(self.head + (b"x" if self.payload_bytes else b""))[0]


@contextmanager
def recorded(split: bool = False) -> Iterator[list[Step]]:
    """The frames of all sockets, while the context is open."""
    steps: list[Step] = []
    send, receive, close = Wire.send, Wire.receive, Wire.close

    def note(way: str, frame: bytes) -> None:
        end = 2 + int.from_bytes(frame[:2], "big")
        steps.append(Step(way, frame[:end], len(frame) - end, frame[end : end + _SHOWN], split))

    def sending(wire: Wire, frame: bytes) -> None:
        note("client", frame)
        send(wire, frame)

    def receiving(wire: Wire, seconds: float) -> bytes | None:
        frame = receive(wire, seconds)
        if frame is not None:
            note("server", frame)
        return frame

    Wire.send, Wire.receive = sending, receiving  # type: ignore[method-assign]
    try:
        yield steps
    finally:
        Wire.send, Wire.receive, Wire.close = send, receive, close  # type: ignore[method-assign]


def record() -> list[Step]:
    """A session: Δ, the socket cut, Δ again, a refusal, the end."""
    load, x = _loading(), synthetic_activations(_SHAPE, 1, seed=0)
    with Host(Service(lambda batches: load())) as host, recorded() as steps:
        remote = connect(host.url)
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        client.delta("q", x, session)
        assert session._wire is not None
        session._wire.close()
        steps.append(Step("cut"))
        message = client.begin("q", x).message()
        session.answer(message)
        with suppress(CorruptPayload):
            session.answer(message[:40])
        remote.close()
    return [each for each, before in zip(steps, [None, *steps], strict=False) if not _lost(each, before)]


def record_split() -> list[Step]:
    """A session of mode ``split`` on the tiny model: three rows, one row, a row that skips a position, the end."""
    tiny, layers, load = _beside("model/tiny"), _beside("split/numpy_layers"), _loading()
    with tempfile.TemporaryDirectory() as temporary:
        folder = tiny.saved(Path(temporary) / "base")
        service = Service(lambda batches: load(), layers=layers.NumpyLayers(tiny, folder))
        with Host(service) as host, recorded(split=True) as steps:
            with connect_split(host.url, folder, adapter="legal", dtype="float16") as model:
                rows = model.ends.embedding
                model.forward(rows[[117, 58, 104]], 0, last=True)
                model.forward(rows[[105]], 3)
                with suppress(UnexpectedMessage):
                    model.forward(rows[[33]], 5)
            return list(steps)


def _loading() -> Any:
    module = synthetic_module(_SHAPE, seed=1, name="q")
    plan = compile_plan(_SHAPE, get_manager().load_packing("rank_bsgs"), module=module)
    compiled = CompiledModule(module, (Part(name="q", d_out=20),), plan)
    return fixed(Server(CompiledLoRA((compiled,), get_manager().load_backend("numpy"), secure=False)))


def _beside(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), Path(__file__).parent / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _lost(step: Step, before: Step | None) -> bool:
    """Whether it is what the client tried on a socket that had ended, unknown to it."""
    return before is not None and before.way == "cut" and not isinstance(step.header, Resume)


def shown(step: Step) -> str:
    """The header as JSON, bytes in hexadecimal."""
    fields = {"type": step.header.__struct_config__.tag, **msgspec.structs.asdict(step.header)}
    return json.dumps({name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()})


def render(steps: list[Step]) -> str:
    """The page's section."""
    parts = []
    for step in steps:
        if step.way == "cut":
            parts.append("*The socket is cut; what was on its way is lost. The client connects another one.*")
            continue
        dump = "\n".join(step.head.hex(" ")[i : i + 96].rstrip() for i in range(0, len(step.head) * 3 - 1, 96))
        more = f"\n+ {step.payload_bytes} bytes: {step.payload.hex(' ')} …" if step.payload_bytes else ""
        parts.append(f"{step.way}: `{shown(step)}`\n\n```text\n{dump}{more}\n```")
    return "\n\n".join(parts)


def read(page: str, split: bool = False) -> list[Step]:
    """The steps on the page."""
    begin, end = MARKS[split]
    section = page.partition(begin)[2].partition(end)[0]
    steps = []
    for way, header, dump, size, payload, cut in _STEP.findall(section):
        if cut:
            steps.append(Step("cut"))
            continue
        step = Step(way, bytes.fromhex(dump.replace("\n", " ")), int(size or 0), bytes.fromhex(payload), split)
        assert json.loads(header) == json.loads(shown(step)), header
        steps.append(step)
    return steps


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    for mode, steps in ((False, record()), (True, record_split())):
        begin, end = MARKS[mode]
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{render(steps)}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(text, "utf-8")
