"""The coordinator that lies, and defences of devices that can be taken out.

It has its own keys, every message, and all secrets of its friends among the devices. What devices
say is all that it gets; what it can make of that the adversary of `lab.dump` tries out.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import define, evolve, field
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedring.coordinator.announcing import Announcing
from fedring.device import member, releases
from fedring.device.consent import Consent
from fedring.device.member import Member
from fedring.lab.dump import Evidence, Finding, Knowledge, attempts, breaks, promised, recover
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import SMALL
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared import membership, pairwise
from fedring.shared.effects import Report
from fedring.shared.encryption.once import Once
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.errors import PeerError, ProtocolError
from fedring.shared.identity import Authority, Identity
from fedring.shared.membership import Joined, Membership, read_ready
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    List,
    ModelReference,
    Ready,
    Refused,
    Release,
    Rest,
    Roster,
    tag,
)
from fedring.shared.numbers import SumVector
from fedring.shared.pairwise import RoundKey

Patch: TypeAlias = pytest.MonkeyPatch
Sabotage: TypeAlias = Callable[[Patch], None]


@define
class Liar:
    """The coordinator of one announce, with everything that it has heard.

    Attributes:
        stage: with the devices; they survive the announce.
        made: the announce.
        readies: what devices answered, by number; the liar may put others in.
        draws: secrets that the liar made itself, by the number under which it uses them.
        truth: what devices contributed, by the digest of their `ready`: to check what is read.
    """

    stage: Rehearsal
    made: Announcing
    readies: dict[int, Signed[Ready]] = field(factory=dict)
    draws: dict[int, list[bytes]] = field(factory=dict)
    truth: dict[bytes, SumVector] = field(factory=dict)

    @classmethod
    def with_ready(cls, n_devices: int, threshold: int, **stage: Any) -> "Liar":
        return cls.of(Rehearsal((threshold,) * n_devices, **stage), 1)

    @classmethod
    def of(cls, stage: Rehearsal, round_number: int, **announce: Any) -> "Liar":
        """Announce a round; whoever takes part is ready."""
        liar = cls(stage, stage.announcing(round_number, **announce))
        liar.shows(*stage.actors)
        return liar

    def shows(self, *numbers: int) -> None:
        """Devices see the announce."""
        for number in numbers:
            self.stage.shows(self.made.announce.raw, number)
            for ready in self.stage.sent(number, Ready)[-1:]:
                if ready.message.announce == self.made.announce.digest:
                    self.readies[number] = ready
                    values = self.stage.actors[number].values
                    assert values is not None
                    self.truth[ready.digest] = values.astype(np.int64)

    def roster(self, *names: int, ring: int = 1) -> Signed[Roster]:
        return self.stage.roster(self.made.announce, [self.readies[n] for n in names], ring)

    def enters(self, number: int, roster: Signed[Roster]) -> None:
        """A device hears a roster, and starts a token of its own so that its body is in one."""
        self.hears(number, roster)
        others = [n for n in self.readies if self.readies[n].raw in roster.message.readies]
        order = (number, *(n for n in others if n not in (number, COORDINATOR_NUMBER)))
        self.hears(number, self.stage.lap(roster, *order))

    def hears(self, number: int, message: Signed[Any]) -> None:
        """A device hears something; whatever it complains of, it complains of."""
        try:
            self.stage.says(number, message)
        except PeerError as fault:
            self.stage.actors[number].complaints.append(fault)

    def asks(self, number: int, roster: Signed[Roster], *names: int) -> Signed[List]:
        asked = self.stage.request(roster, *names)
        self.hears(number, asked)
        return asked

    def gathers(self, roster: Signed[Roster], *names: int) -> None:
        """All of these enter the roster and are asked for the sum over them."""
        for number in names:
            if number in self.stage.actors:
                self.enters(number, roster)
        for number in names:
            if number in self.stage.actors:
                self.asks(number, roster, *names)

    def forges(self, number: int, key: bytes | RoundKey, by: Identity | None = None) -> None:
        """Put a `ready` with this round key under a number; by default that device signs it."""
        signer = by or device(number)
        public = key if isinstance(key, bytes) else key.public
        ready = Ready(
            **tag(signer.fleet, 1, self.made.announce.message.round, signer.number),
            announce=self.made.announce.digest,
            certificate=signer.certificate,
            threshold=1,
            round_key=public,
        )
        self.readies[number] = sign(ready, signer)

    def own_key(self, number: int) -> RoundKey:
        """A round key of the liar's own, to be used under this number."""
        seed = self.stage.random.randbytes(32)
        self.draws.setdefault(number, []).append(seed)
        return RoundKey.generate(lambda _: seed)

    def reads(self, *friends: int) -> list[dict[int, int]]:
        """All that the liar and its friends can read: how often whose contribution is in it."""
        return [finding.numbers for finding in self.findings(*friends)]

    def breaks(self, *friends: int) -> list[dict[int, int]]:
        """What of that goes beyond the promise."""
        evidence, knowledge = self._dump(friends)
        found = breaks(self.findings(*friends), promised(evidence, knowledge))
        return [finding.numbers for finding in found]

    def findings(self, *friends: int) -> list[Finding]:
        findings = recover(*self._dump(friends))
        for finding in findings:
            self.is_true(finding)
        return findings

    def is_true(self, finding: Finding) -> None:
        """What was read of devices that this liar saw ready is what they contributed."""
        known = all(one.ready in self.truth for one, _ in finding.combination)
        if finding.values is not None and known:
            rows = [factor * self.truth[one.ready] for one, factor in finding.combination]
            assert finding.values.tolist() == sum(rows[1:], rows[0]).tolist()

    def _dump(self, friends: Iterable[int]) -> tuple[Evidence, Knowledge]:
        parties = {COORDINATOR_NUMBER, *friends, *self.draws}
        draws = {
            party: [*self.stage.draws.get(party, ()), *self.draws.get(party, ())]
            for party in parties
        }
        return Evidence.of(self.stage.overheard), Knowledge(self.stage.key, draws, SMALL)

    def released(self) -> set[int]:
        """Who gave a release in the round of this announce."""
        number = self.made.announce.message.round
        return {
            one
            for one in self.stage.actors
            if any(release.message.round == number for release in self.stage.sent(one, Release))
        }

    def reasons(self, number: int) -> list[str]:
        """Why a device refused something, as the coordinator hears it and its status tells."""
        heard = [refused.message.reason for refused in self.stage.sent(number, Refused)]
        told = [
            effect.facts["reason"]
            for effect in self.stage.actors[number].did
            if isinstance(effect, Report) and effect.event == "refused"
        ]
        assert heard == told
        return heard


# -- defences, taken out ----------------------------------------------------------------------


def any_list(patch: Patch) -> None:
    """A list is not looked at."""
    patch.setattr(member, "objection", lambda *_: None)
    names = Membership.round_keys
    patch.setattr(
        Membership,
        "round_keys",
        lambda self, wanted: names(self, tuple(n for n in wanted if n in self.members)),
    )


def lists_without(check: str, patch: Patch) -> None:
    """A list is looked at, but for the check that gives this reason."""
    any_list(patch)

    def objection(*facts: Any) -> str | None:
        found = releases.objection(*facts)
        return None if found is not None and check in found else found

    patch.setattr(member, "objection", objection)


def no_threshold(patch: Patch) -> None:
    """Rings and lists of any size will do."""
    lists_without("contributors, this device answers above", patch)
    patch.setattr(Consent, "objection", lambda *_: None)
    enter = Member._enter

    def careless(self: Member, held: Any, roster: Any) -> Any:
        mine = self._consent
        self._consent = evolve(mine, threshold=0)
        effects = enter(self, held, roster)
        self._consent = mine
        return effects

    patch.setattr(Member, "_enter", careless)


def every_list_is_the_first(patch: Patch) -> None:
    """Nothing is dropped, nothing serves only once."""
    patch.setattr(Member, "_drop_secrets", staticmethod(lambda _: None))
    patch.setattr(Once, "take", lambda self: self._values[0])
    patch.setattr(Once, "drop", lambda _: None)
    asked = Member._asked_for_release

    def again(self: Member, held: Any, message: Any, now: float) -> Any:
        held.list = None
        return asked(self, held, message, now)

    patch.setattr(Member, "_asked_for_release", again)


def every_roster_is_the_first(patch: Patch) -> None:
    every_list_is_the_first(patch)
    enter = Member._enter

    def again(self: Member, held: Any, roster: Any) -> Any:
        held.membership = None
        return enter(self, held, roster)

    patch.setattr(Member, "_enter", again)


def joined_is_forgotten(patch: Patch) -> None:
    announced = Member.announced

    def again(self: Member, raw: bytes, now: float) -> Any:
        self._leave()
        self._joined, self._last_announce = (0, 0), b""
        return announced(self, raw, now)

    patch.setattr(Member, "announced", again)


def joined_is_not_durable(patch: Patch) -> None:
    patch.setattr(Rehearsal, "reboot", Rehearsal.power_on)


def no_pads(patch: Patch) -> None:
    for module in (releases, attempts):  # whoever knows that there are none takes none off
        patch.setattr(module, "pads", lambda *_, n_pieces, **__: [0] * n_pieces)


def pads_without(part: str, patch: Patch) -> None:
    """Pads do not hang on the list, on the roster, or on the device numbers."""
    info = pairwise._info

    def shorter(tag: bytes, roster_digest: bytes, list_digest: bytes, *numbers: int) -> bytes:
        if part == "list":
            list_digest = bytes(32)
        elif part == "roster":  # and with it the list, which names the roster
            roster_digest = list_digest = bytes(32)
        elif tag == pairwise._PAD:
            numbers = (0, 0)
        return info(tag, roster_digest, list_digest, *numbers)

    patch.setattr(pairwise, "_info", shorter)


def any_roster(patch: Patch) -> None:
    """Whoever is in a roster is not compared with the others."""

    def careless(roster: Any, announce: Any, authority: Any, revoked: Any) -> Membership:
        joined = [read_ready(raw, announce, authority, revoked) for raw in roster.message.readies]
        return Membership(roster, {one.number: one for one in joined})

    patch.setattr(member, "read_roster", careless)


def any_round_key(patch: Patch) -> None:
    """Round keys are not looked at; what X25519 itself refuses gives a secret of zeros."""
    patch.setattr(membership, "check_public_key", lambda _: None)
    derive = RoundKey.derive

    def careless(self: RoundKey, public: bytes, info: bytes) -> bytes:
        try:
            return derive(self, public, info)
        except ProtocolError:
            return HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(bytes(32))

    patch.setattr(RoundKey, "derive", careless)


def any_announce(patch: Patch) -> None:
    """A `ready` may answer another announce."""

    def careless(raw: bytes, _: Any, authority: Authority, __: Any) -> Joined:
        unverified = open_envelope(raw)
        assert isinstance(unverified.message, Ready)
        peer = authority.peer(unverified.message.certificate)
        return Joined(peer, unverified.verified_by(peer, Ready))

    def roster(message: Any, *rest: Any) -> Membership:
        joined = [careless(raw, *rest) for raw in message.message.readies]
        return Membership(message, {one.number: one for one in joined})

    patch.setattr(member, "read_roster", roster)


def any_certificate(patch: Patch) -> None:
    patch.setattr(Authority, "_check_issued", lambda *_: None)
    patch.setattr(Authority, "peer", Authority._read_peer)


def both(*sabotages: Sabotage) -> Sabotage:
    """Several defences at once."""

    def all_of_them(patch: Patch) -> None:
        for sabotage in sabotages:
            sabotage(patch)

    return all_of_them


# -- tricks -----------------------------------------------------------------------------------


def reboot(liar: Liar, number: int) -> None:
    liar.stage.reboot(number)


def turn_away(liar: Liar, number: int) -> None:
    if number not in liar.readies:
        return
    about = liar.readies[number].digest
    liar.hears(number, liar.stage.refusal(liar.made.announce, about, "round closed"))


def rest(liar: Liar, number: int) -> None:
    """No round is running: devices leave the one that they are in."""
    message = liar.made.announce.message
    model = ModelReference(version=1, parent=0, digest=b"m" * 32, size=999)
    certificate = liar.stage.coordinator.certificate
    resting = Rest(**liar.stage.tag(liar.made.announce), model=model, certificate=certificate)
    assert resting.round == message.round
    liar.stage.shows(liar.stage.pen(resting).raw, number)


def with_the_top_bit(key: bytes) -> bytes:
    """The same point for X25519, which leaves that bit out."""
    return key[:-1] + bytes([key[-1] | 0x80])
