"""What a device agrees to do, whatever a coordinator asks.

These limits are the owner's, set in the device's own configuration; an announce can never widen
them. An announce that asks for more is refused with the reason, and the round goes on without this
device.

Source: docs/protocol.md, sections 1, 2 and 4 (step 1).
"""

from __future__ import annotations

from attrs import frozen

from fedring.shared.encryption import SUITES, check_public_key, max_values
from fedring.shared.errors import PublicKeyError
from fedring.shared.messages import USUAL_LIMIT_S, Announce, ModelReference

MODEL_OVERHEAD_BYTES = 2**20
"""Manifest and untrained arrays of a model, beside its weights."""


@frozen(kw_only=True)
class Consent:
    """Limits on what a coordinator may ask of this device.

    Attributes:
        threshold: this device releases only for lists of more names than this.
        suites: encryption suites that it takes part in.
        minimum_key_bits: shortest Paillier modulus that it encrypts under.
        max_epochs: most passes over its data in one round.
        max_values: longest vector that it contributes: a bound on memory.
        max_duration_s: longest ready, lap, patience or release time that it accepts.
    """

    threshold: int
    suites: frozenset[str] = frozenset(SUITES)
    minimum_key_bits: int = 2048
    max_epochs: int = 100
    max_values: int = 2_000_000
    max_duration_s: float = USUAL_LIMIT_S

    def objection(self, announce: Announce) -> str | None:
        """Why this device does not take part, or None when it does."""
        if announce.ring.size <= self.threshold:
            return (
                f"rings have {announce.ring.size} members, "
                f"this device answers above {self.threshold}"
            )
        if announce.suite not in self.suites:
            return f"suite {announce.suite} is not allowed on this device"
        if announce.plan.epochs > self.max_epochs:
            return f"{announce.plan.epochs} epochs asked, this device does {self.max_epochs}"
        if announce.n_values > self.max_values:
            return f"{announce.n_values} values asked, this device does {self.max_values}"
        if announce.n_values > (most := max_values(announce.suite)):
            return f"{announce.n_values} values asked, suite {announce.suite} takes {most}"
        if self.too_large(announce.model):
            return (
                f"a model of {announce.model.size} bytes, this device takes {self.max_model_bytes}"
            )
        ring = announce.ring
        if max(ring.ready_s, ring.patience_s, ring.release_s, ring.lap_s) > self.max_duration_s:
            return f"durations above {self.max_duration_s:g} s"
        if announce.paillier_n.startswith(b"\0"):
            return "a Paillier modulus written with zeros before it"
        try:
            check_public_key(
                int.from_bytes(announce.paillier_n, "big"), minimum_bits=self.minimum_key_bits
            )
        except PublicKeyError as fault:
            return fault.reason
        return None

    @property
    def max_model_bytes(self) -> int:
        """Largest model fetched: float32 for each value, and room for names and normalisation."""
        return 4 * self.max_values + MODEL_OVERHEAD_BYTES

    def too_large(self, model: ModelReference) -> bool:
        """Whether a model is more than this device fetches."""
        return model.size > self.max_model_bytes
