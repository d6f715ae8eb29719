"""The hop: a ring's member adds its body to a sum on its way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import numpy as np
from benchmarks.encryption import plain
from benchmarks.encryption.bench import HOP, NO_GOAL, Bench, weights
from benchmarks.encryption.parties import UsedAgain, contribution, hop, hop_by_chunks, make_suite
from benchmarks.encryption.timing import Timed, in_turns

from fedring.device.relay import Relay
from fedring.lab.benchmarks import Row
from fedring.lab.simulate.cast import cast, device
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.effects import Send
from fedring.shared.encryption import Body, Suite
from fedring.shared.envelopes import open_envelope, sign
from fedring.shared.membership import Membership, read_roster
from fedring.shared.messages import Chunk, Hop, Progress, tag
from fedring.shared.tokens import Departure

SIGNED: Final = "nobody signs the float32 chunks"


def hops(bench: Bench, n_values: int, bits: int) -> Iterator[Row]:
    """What a ring's member does to a body: add its own, alone and in all the ways there were.

    Members add chunk by chunk, as they come. The last of these rows is all that they do, signatures
    verified and made, beside adding float32 chunks that nobody signed.
    """
    suite = make_suite(bench.keys[3072], n_values, bits)
    update = plain.update(n_values)
    wire, total_update = update.tobytes(), update.copy()
    own = suite.prepare(os.urandom, UsedAgain(suite.n)).body(contribution(suite))
    body, total = suite.encode_body(own), own.copy()
    member = SecondMember(suite, body, own)
    bench.exact.append(member.is_right())
    took = in_turns(
        {
            "float32 hop": Timed(lambda _: plain.hop(wire, update)),
            "hop": Timed(lambda _: hop(suite, body, own)),
            "float32 add": Timed(lambda _: np.add(total_update, update, out=total_update)),
            "add": Timed(lambda _: suite.add(total, own)),
            "float32 chunks": Timed(lambda _: plain.hop_by_chunks(wire, update)),
            "chunks": Timed(lambda _: hop_by_chunks(suite, body, own)),
            "member": Timed(member.hands_on, member.relay),
        },
        2 * bench.extent.n_turns,
    )
    case = f"{weights(n_values)}, {bits} bits"
    reach, dream = HOP.get((n_values, bits), NO_GOAL)
    parts = {
        "add": "hop add",
        "hop": "hop from bytes to bytes",
        "chunks": "hop chunk by chunk",
    }
    for name, what in parts.items():
        yield Row(
            f"{what} / float32, {case}",
            took[name],
            "s",
            took[f"float32 {name}"],
            at_most=reach,
            dream=dream,
        )
    name = f"hop of a member, chunks verified, added, signed / float32 chunks, {case}"
    yield Row(name, took["member"], "s", took["float32 chunks"], no_goal=SIGNED)


@lru_cache(maxsize=1)
def ring_of_three() -> tuple[Rehearsal, Membership]:
    """Members of a ring, as production knows them; what they contributed does not matter here."""
    stage = Rehearsal((1, 1, 1))
    announce = stage.announcing()
    roster = stage.roster(announce.announce, stage.all_ready(announce))
    return stage, read_roster(roster, announce.announce, cast().authority, frozenset())


class SecondMember:
    """The second of three members, to whom the first hands a token chunk by chunk.

    Args:
        suite: of the bodies.
        body: in the token.
        own: the second member's.
    """

    def __init__(self, suite: Suite, body: bytes, own: Body) -> None:
        stage, self._membership = ring_of_three()
        self._suite, self._body, self._own = suite, body, own
        self._coordinator = stage.coordinator.peer
        self._source = device(1)
        lap = stage.lap(self._membership.roster, 1, 2, 3)
        header = Hop(**self._tag(1), lap=lap.raw, names=(1,), size=suite.body_bytes)
        departure = Departure(sign(header, self._source), body, self._source)
        raws = list(departure.begin())
        while len(raws) <= header.n_chunks:
            raws += departure.progressed(len(raws) - 1, stalled=False)
        self._raws = raws

    def relay(self) -> Relay:
        """The member's part, before the token comes."""
        return Relay(
            membership=self._membership,
            coordinator=self._coordinator,
            me=2,
            body=self._own,
            suite=self._suite,
            signer=device(2),
            patience_s=60.0,
        )

    def hands_on(self, relay: Relay) -> list[bytes]:
        """All that goes to the third member, who says of each chunk that it has come."""
        peer, sent = self._source.peer, []
        raws = iter(self._raws)
        relay.hop(open_envelope(next(raws)).verified_by(peer, Hop), 0.0)
        about = b""
        for index, raw in enumerate(raws):
            effects = relay.chunk(open_envelope(raw).verified_by(peer, Chunk), 0.0)
            onward = [e.data for e in effects if isinstance(e, Send) and e.to == device(3).name]
            about = about or open_envelope(onward[0]).digest
            answer = Progress(**self._tag(3), about=about, chunks=index + 1)
            sent += [*onward, *(e.data for e in relay.answered(answer, 0.0) if isinstance(e, Send))]
        return sent

    def is_right(self) -> bool:
        """Whether what goes to the third member is the token with the own body added."""
        chunks = [
            open_envelope(raw).message for raw in islice(self.hands_on(self.relay()), 1, None)
        ]
        total = self._suite.decode_body(self._body)
        self._suite.add(total, self._own)
        arrived = b"".join(one.data for one in chunks if isinstance(one, Chunk))
        return arrived == self._suite.encode_body(total)

    def _tag(self, sender: int) -> dict[str, Any]:
        roster = self._membership.roster.message
        return tag(roster.fleet, roster.epoch, roster.round, sender)
