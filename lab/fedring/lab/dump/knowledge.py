"""What an adversary has beside a recording: keys, and whatever its friends ever drew at random.

All secrets of a party come out of what it draws: round keys, exchange keys, and the seeds of masks.
So a list of its draws is everything that it knows and others do not, its own data aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import phe
from attrs import field, frozen

from fedring.lab.dump.evidence import Participant
from fedring.shared.encryption import PRODUCTION, Parameters
from fedring.shared.encryption.streams import SEED_BYTES
from fedring.shared.messages import EXCHANGE_KEY_BYTES
from fedring.shared.pairwise import RoundKey


@frozen(slots=False)  # slots have no room for a cached property
class Knowledge:
    """Secrets of the coordinator and of some devices.

    Attributes:
        private_key: the coordinator's Paillier key; None for devices by themselves.
        draws: all that a party drew, in order, by device number; 0 for the coordinator.
        parameters: of the lattice; public.
    """

    private_key: phe.PaillierPrivateKey | None = field(default=None, repr=False)
    draws: Mapping[int, Sequence[bytes]] = field(factory=dict, repr=False)
    parameters: Parameters = PRODUCTION

    @cached_property
    def round_keys(self) -> dict[bytes, RoundKey]:
        """X25519 keys among the draws, by their public half; most are something else."""
        seeds = (
            draw
            for draws in self.draws.values()
            for draw in draws
            if len(draw) == EXCHANGE_KEY_BYTES
        )
        keys = (RoundKey.generate(lambda _, seed=seed: seed) for seed in seeds)  # type: ignore[misc]
        return {key.public: key for key in keys}

    def owns(self, participant: Participant) -> bool:
        """Whether this device is in on it."""
        return participant.number in self.draws

    def seeds(self, number: int) -> list[bytes]:
        """Whatever could be the seed of a mask of this device."""
        return [draw for draw in self.draws.get(number, ()) if len(draw) == SEED_BYTES]
