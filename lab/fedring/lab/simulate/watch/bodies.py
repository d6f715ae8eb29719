"""Invariant 1: one key, one body; and every token is the sum of the bodies that it names."""

from __future__ import annotations

from attrs import frozen

from fedring.coordinator.announcing import Announcing
from fedring.device.releases import Secrets
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.reading import digest_of
from fedring.lab.simulate.watch.checks import Check, RoundOf, require, round_of
from fedring.shared.encryption import Body, Suite
from fedring.shared.envelopes import Signed
from fedring.shared.messages import CHUNK_BYTES, Announce, Chunk, Hop, Message, Ready
from fedring.shared.numbers import IntVector


@frozen(eq=False)
class Contribution:
    """What a device put into a round it joined.

    Attributes:
        values: before masking.
        body: after it.
        secrets: the device's own object.
    """

    values: IntVector
    body: Body
    secrets: Secrets


class Bodies(Check):
    """Attributes:
    joined: round -> device number -> what it contributes.
    suites: round -> how bodies are added.
    """

    def __init__(self, fleet: SimulatedFleet) -> None:
        super().__init__(fleet)
        self.joined: dict[RoundOf, dict[int, Contribution]] = {}
        self.suites: dict[RoundOf, Suite] = {}
        self._values: dict[str, IntVector] = {}
        self._keys: set[int] = set()
        self._tokens: dict[bytes, bytes] = {}

    def announcing(self, announcing: Announcing, /) -> None:
        self.suites[round_of(announcing.announce.message)] = announcing.suite

    def contributed(self, device: str, _: Signed[Announce], values: IntVector, /) -> None:
        self._values[device] = values.copy()

    def device_sent(self, device: str, message: Message, data: bytes, /) -> None:
        match message:
            case Ready():
                self._joins(device, round_of(message))
            case Hop(names=names):
                self._tokens[digest_of(data)] = self.sum_of(round_of(message), names)
            case Chunk(hop=hop, index=index, data=piece):
                start = index * CHUNK_BYTES
                right = self._tokens[hop][start : start + CHUNK_BYTES] == piece
                require(right, "a token is the sum of the bodies that it names", device, message)

    def _joins(self, device: str, where: RoundOf) -> None:
        """With the first `ready` of a round the device's body of that round is settled."""
        party = self.fleet.devices[device]
        held = party.member._round if party.member else None  # noqa: SLF001
        assert held is not None and held.secrets is not None  # noqa: PT018, S101
        known, number, secrets = (
            self.joined.setdefault(where, {}),
            party.identity.number,
            held.secrets,
        )
        if number in known:
            require(known[number].secrets is secrets, "one key, one body", device, where)
            return
        values = self._values.pop(device)
        mask = secrets.body.copy()
        self.suites[where].add_values(mask, -values)
        require(bool(mask.all()), "every coefficient is masked", device, where)
        key = self._key(secrets)
        require(key not in self._keys, "no key serves twice", device, where)
        self._keys.add(key)
        known[number] = Contribution(values, secrets.body.copy(), secrets)

    def _key(self, secrets: Secrets) -> int:
        """The digits of a key that stand in the first ciphertext of its release."""
        (ciphertexts,) = secrets.mask._ciphertexts._values  # noqa: SLF001
        digits: int = self.fleet.private_key.raw_decrypt(ciphertexts[0])
        return digits

    def sum_of(self, where: RoundOf, names: tuple[int, ...]) -> bytes:
        """The bodies of these devices, added up, as they travel."""
        known, suite = self.joined.get(where, {}), self.suites[where]
        strangers = set(names) - known.keys()
        require(not strangers and len(names) == len(set(names)), "a token of members", where, names)
        total = known[names[0]].body.copy()
        for name in names[1:]:
            suite.add(total, known[name].body)
        return suite.encode_body(total)
