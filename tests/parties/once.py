"""Both parties' use of stores and marks, without cryptography, and an operator who crashes, restores and clones them.

A client takes indices of its batches in order; a server answers each of them once. An eavesdropper on either side
writes down for which message an index was used. With ``Ownership`` and ``Mark`` the parties do what pools and batches
do.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from helora_core.errors import InvalidInput, NotDurable, RolledBack
from helora_core.parties.anchored_store import AnchoredStore, StoreAnchor, void
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.sealed_store import SealedStore
from helora_core.parties.store import Store, Write
from tests.parties.places import Crash, Directory, Faults, Place

Span = tuple[str, int, int]
"""A batch, the first index, and the index after the last one."""

KEY = bytes(range(32))


class UsedTwice(AssertionError):
    """What must never happen."""


class Eavesdropper:
    """For which message each index was used."""

    def __init__(self) -> None:
        self._messages: dict[str, NDArray[np.int64]] = {}
        self.indices = 0

    def note(self, spans: list[Span], message: int) -> None:
        for batch, start, end in spans:
            seen = self._messages.get(batch)
            if seen is None:
                seen = self._messages[batch] = np.zeros(1 << 12, np.int64)
            if seen[start:end].any():
                raise UsedTwice(f"indices {start} to {end} of batch {batch}")
            seen[start:end] = message
            self.indices += end - start


@dataclass
class Batch:
    size: int
    mark: Mark
    used: NDArray[np.bool_]


class Party:
    """Either party."""

    def __init__(self, store: Store, ahead: int) -> None:
        self.owner, self.ahead = Ownership(store, "owner"), ahead
        self.batches: dict[str, Batch] = {}
        for name in store.names("batch."):
            self._hold(name.removeprefix("batch."), int.from_bytes(store.get(name) or b"", "big"))

    def add(self, name: str, size: int) -> None:
        self.owner.put(Write(f"batch.{name}", size.to_bytes(2, "big")))
        self._hold(name, size)

    def _hold(self, name: str, size: int) -> None:
        mark = Mark(self.owner, f"mark.{name}", size, self.ahead)
        batch = Batch(size, mark, np.arange(size) < mark.reserved)
        if batch.used.all():
            self.owner.put(*mark.erasing(f"batch.{name}"))
        else:
            self.batches[name] = batch

    def take(self, tokens: int) -> list[Span]:
        """As the client does it: spans in order, of as many batches as it takes; fewer tokens if there are no more."""
        spans = []
        for name, batch in list(self.batches.items()):
            start = int(np.argmin(batch.used))
            end = min(batch.size, start + tokens)
            if start < end:
                spans.append((name, start, end))
                tokens -= end - start
        self._use(spans)
        return spans

    def answer(self, spans: list[Span]) -> bool:
        """As the server does it: all of them if none was used, else none."""
        for name, start, end in spans:
            batch = self.batches.get(name)
            if batch is None or batch.used[start:end].any():
                return False
        self._use(spans)
        return True

    def discard(self) -> None:
        """As a client does it whose correlations the server does not have any more."""
        for name in list(self.batches):
            self.owner.put(*self.batches.pop(name).mark.erasing(f"batch.{name}"))

    def _use(self, spans: list[Span]) -> None:
        for name, start, end in spans:
            self.batches[name].used[start:end] = True
        Mark.cover_all([(self.batches[name].mark, end) for name, _, end in spans])
        for name in {name for name, _, _ in spans}:
            batch = self.batches[name]
            if batch.used.all():
                del self.batches[name]
                self.owner.put(*batch.mark.erasing(f"batch.{name}"))


@dataclass
class Side:
    """The processes of one party, the places that its store is in, and its backups.

    Attributes:
        running: Which processes there are, and the place that each has open.
    """

    places: list[Place]
    anchor_at: Place | None
    backups: list[Place] = field(default_factory=list)
    running: list[tuple[Party, Place]] = field(default_factory=list)
    wire: Eavesdropper = field(default_factory=Eavesdropper)
    anchor: StoreAnchor | None = None


class World:
    """A client and a server.

    Args:
        make: Makes an empty place.
        faults: Where processes end; also of the places.
        anchored: Whether stores have anchors; without, backups and clones are not safe.
        sealed: Whether stores are sealed.
        ahead: Indices that a mark reserves at a time.
        seed: Of the choices that are not given.
    """

    def __init__(
        self, make: Callable[[], Place], faults: Faults, *, anchored: bool, sealed: bool, ahead: int, seed: int = 0
    ) -> None:
        self.faults, self.sealed, self.ahead = faults, sealed, ahead
        self.random = random.Random(seed)
        self.sides = {who: Side([make()], make() if anchored else None) for who in ("client", "server")}
        self.events: Counter[str] = Counter()
        self.messages = 0
        self.sent: list[list[Span]] = []
        for side in self.sides.values():
            self._begin(side)

    def store(self, side: Side, place: Place) -> Store:
        store = place.open()
        if self.sealed:
            store = SealedStore(store, KEY)
        return AnchoredStore(store, side.anchor) if side.anchor else store

    def start(self, side: Side, place: Place) -> bool:
        """Begin a process at a place, and say whether it runs. An anchor may refuse it; it may crash at once."""
        try:
            side.running.append((Party(self.store(side, place), self.ahead), place))
        except RolledBack:
            self.events["copies refused"] += 1
            place.close()
            return False
        except Crash:
            self._crashed(side, place)
            return False
        return True

    def party(self, side: Side) -> tuple[Party, Place]:
        """One of the processes. If none is left one begins; the operator voids the store if all are refused."""
        while not side.running:
            self.faults.left = None
            place = self.random.choice(side.places)
            if not self.start(side, place):
                side.places.remove(place)
                if not side.places:
                    self._void(side, place)
        return self.random.choice(side.running)

    def _void(self, side: Side, place: Place) -> None:
        store = place.open()
        void(SealedStore(store, KEY) if self.sealed else store, side.anchor)
        place.close()
        side.places.append(place)
        self.events["stores voided"] += 1

    def attempt(self, side: Side, what: Callable[[Party], list[Span] | None]) -> list[Span]:
        """What one of the processes does; nothing if it is ended by a crash, or refused since it is not the last."""
        party, place = self.party(side)
        try:
            return what(party) or []
        except (NotDurable, RolledBack) as error:
            self.events[f"writes refused ({error.code})"] += 1
            side.running.remove((party, place))
            if all(other is not place for _, other in side.running):
                place.close()
        except Crash:
            side.running.remove((party, place))
            self._crashed(side, place)
        return []

    def _crashed(self, side: Side, place: Place) -> None:
        """The process is gone. A directory's lock, and an anchor's, are of a process: all that ran in it are gone."""
        self.events["crashes"] += 1
        self.faults.left = None
        if isinstance(place, Directory):
            for _, other in side.running:
                other.close()
            side.running.clear()
            place.close()
            if side.anchor_at:
                side.anchor_at.close()
            self._begin(side)

    def _begin(self, side: Side) -> None:
        if side.anchor_at:
            side.anchor = StoreAnchor(side.anchor_at.open())

    # What happens

    def prepare(self, size: int) -> None:
        """A batch: the server has it durably before the client learns of it."""
        self.events["batches"] += 1
        name = str(self.events["batches"])

        def added(party: Party) -> list[Span]:
            party.add(name, size)
            return [(name, 0, size)]

        if self.attempt(self.sides["server"], added):
            self.attempt(self.sides["client"], added)

    def request(self, tokens: int) -> int:
        """A message and perhaps its answer; as many indices as left the client."""
        client = self.sides["client"]
        spans = self.attempt(client, lambda party: party.take(tokens))
        if not spans:
            return 0
        self.messages += 1
        client.wire.note(spans, self.messages)
        self.sent.append(spans)
        if not self.answer(spans, self.messages) and not self.random.randrange(4):
            self.attempt(client, Party.discard)
        return sum(end - start for _, start, end in spans)

    def answer(self, spans: list[Span], message: int) -> bool:
        server = self.sides["server"]
        answered = self.attempt(server, lambda party: spans if party.answer(spans) else None)
        server.wire.note(answered, message)
        return bool(answered)

    def deviate(self) -> None:
        """A client that asks again, for indices of its own choice, with other activations."""
        if self.sent:
            name, start, end = self.random.choice(self.random.choice(self.sent[-50:]))
            self.messages += 1
            self.answer([(name, start, self.random.randint(start + 1, end))], self.messages)

    def crash(self, who: str, steps: int) -> None:
        """The next process that writes ends after so many steps; this one ends now if there are none."""
        if steps:
            self.faults.left = steps
        else:
            side = self.sides[who]
            party, place = self.party(side)
            side.running.remove((party, place))
            self._crashed(side, place)

    def back_up(self, who: str) -> None:
        side = self.sides[who]
        side.backups.append(self.random.choice(side.places).copy())
        del side.backups[:-4]
        self.events["backups"] += 1

    def put_back(self, who: str) -> None:
        """All processes end, and a backup takes the place of the store."""
        side = self.sides[who]
        if not side.backups:
            return
        for _, place in side.running:
            place.close()
        side.running.clear()
        side.places = [self.random.choice(side.backups).copy()]
        self.events["backups put back"] += 1
        self.party(side)

    def clone(self, who: str) -> None:
        """A copy of the store is opened elsewhere, while the first one goes on."""
        side = self.sides[who]
        _, place = self.party(side)
        copy = place.copy()
        side.places = [*side.places[-2:], copy]
        self.events["clones opened"] += 1
        if not self.start(side, copy) and copy in side.places:
            side.places.remove(copy)

    def replicate(self, who: str) -> None:
        """A second process opens the same store; a directory is locked."""
        side = self.sides[who]
        _, place = self.party(side)
        if isinstance(place, Directory):
            try:
                self.store(side, place.another())
            except InvalidInput:
                self.events["locked directories"] += 1
                return
            raise AssertionError("two processes opened one directory")
        self.events["replicas"] += 1
        self.start(side, place)

    def close(self) -> None:
        """All processes end."""
        for side in self.sides.values():
            for place in [*side.places, *(place for _, place in side.running), *filter(None, [side.anchor_at])]:
                place.close()
