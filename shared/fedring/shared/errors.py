"""Everything that fedring raises on purpose.

    FedringError
    ├── UserError               the user's to mend: `fedring: error: ...`, exit status 2
    │   ├── ConfigError         a setting that is unknown, missing or out of its range
    │   ├── DataError           a data file that cannot be learned from
    │   ├── ModelError          a model file or description that cannot be used
    │   ├── CertificateError    a key or certificate file that is broken, open to all, or foreign
    │   ├── KeyFileError        a Paillier key file that is broken or open to all
    │   ├── BrokerError         a broker that cannot be reached or lets us do less than we need
    │   ├── BundleError         a bundle that is damaged, or that this board may not run
    │   ├── FlashError          a card, image or board that cannot be given fedring
    │   ├── SignedFolderError   a signed folder that is incomplete, changed, or somebody else's
    │   └── StateError          a state folder that is in use, foreign, or not readable
    ├── PeerError               a peer's fault: logged, answered `refused`, never ends the process
    │   ├── MessageError        bytes that do not decode, or break a limit
    │   ├── IdentityError       a certificate, signature or seal that does not hold
    │   ├── PublicKeyError      a Paillier public key that no device may use
    │   ├── BodyError           a masked body that cannot be one: length, type, value
    │   ├── ReleaseError        a release that cannot be one: length, count, value
    │   └── ProtocolError       well-formed and signed, but against the rules of the ring
    ├── SumError                the decrypted sum cannot be right: it is thrown away
    ├── UpdateError             an update with a NaN or infinity: it is never sent
    └── OneTimeError            a secret that may serve once was asked to serve again

Anything else that escapes is a bug and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

SumCheck = Literal["key range", "plaintext range", "noise", "padding", "count", "zero", "range"]


class FedringError(Exception):
    """The root: whoever catches it catches all that fedring raises on purpose."""


class UserError(FedringError):
    """A mistake that the user can mend.

    Attributes:
        text: what is wrong, with file, line, topic or value as far as known; one sentence.
        name: the error's own page in the docs, such as "config.unknown-key".
        hint: what to do about it, or "" where we do not know.
    """

    def __init__(self, text: str, *, name: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.name = name
        self.hint = hint


class ConfigError(UserError):
    """A setting is unknown, missing, or out of its range."""


class DataError(UserError):
    """A data file cannot be learned from: wrong columns, shapes, values."""


class ModelError(UserError):
    """A model file or the description of a model cannot be used."""


class CertificateError(UserError):
    """A key or certificate file is missing, broken, readable by all, or of another fleet."""


class KeyFileError(UserError):
    """A Paillier key file is missing, broken, or readable by all."""


class BrokerError(UserError):
    """The broker cannot be reached, or lets us do less than we need."""


class BundleError(UserError):
    """A bundle is damaged, or is not for this board."""


class FlashError(UserError):
    """A card, image or board cannot be given fedring: unfit, in use, full, out of reach."""


class SignedFolderError(UserError):
    """A signed folder is incomplete, was changed, or was signed by somebody else."""


class StateError(UserError):
    """A state folder is in use, belongs to somebody else, or cannot be read."""


class PeerError(FedringError):
    """A peer sent what it must not send.

    Attributes:
        reason: what is wrong, short enough for a `refused` answer.
        sender: name or number of the peer, "" where whoever raises does not know it.
        kind: kind of the message, "" where whoever raises does not know it.

    Code that knows the sender fills it in on the way up: `error.sender = peer.name; raise`.
    """

    def __init__(self, reason: str, *, sender: str = "", kind: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.sender = sender
        self.kind = kind

    def __str__(self) -> str:
        origin = " from ".join(fact for fact in (self.kind, self.sender) if fact)
        return f"{origin}: {self.reason}" if origin else self.reason


class MessageError(PeerError):
    """Bytes do not decode to a message, or break one of its limits."""


class IdentityError(PeerError):
    """A certificate, signature or seal does not hold."""


class PublicKeyError(PeerError):
    """A Paillier public key is one that no device may encrypt under."""


class BodyError(PeerError):
    """A masked body cannot be one: its length, type or values are wrong."""


class ReleaseError(PeerError):
    """A release cannot be one: its length, count or values are wrong."""


class ProtocolError(PeerError):
    """A message is well-formed and signed, but the rules of the ring do not allow it."""


class SumError(FedringError):
    """A decrypted sum failed one of its checks; nothing of it is used.

    Attributes:
        check: the check that failed. "key range" blames a release, "noise" and "padding" a body,
            "plaintext range" one or the other; "count", "zero" and "range" what a contributor put
            into its body.
        detail: the value met and the bound it broke.
    """

    def __init__(self, check: SumCheck, detail: str) -> None:
        super().__init__(f"sum check '{check}' failed: {detail}")
        self.check = check
        self.detail = detail


class UpdateError(FedringError):
    """An update holds a NaN or an infinity.

    Attributes:
        index: position of the first such value in the flat update, or in `layer` when named.
        value: the value, NaN or infinite.
        layer: name of the layer, "" where whoever raises sees the flat vector only.
    """

    def __init__(self, index: int, value: float, *, layer: str = "") -> None:
        super().__init__(index, value)
        self.index = index
        self.value = value
        self.layer = layer

    def __str__(self) -> str:
        where = f"layer '{self.layer}'" if self.layer else "the update"
        return f"value {self.index} of {where} is {self.value}"


class OneTimeError(FedringError):
    """A secret that may be used once was asked to serve a second time.

    Attributes:
        secret: what was to be used again.
        reveals: what the second use would tell, and to whom.
    """

    def __init__(self, secret: str, reveals: str) -> None:
        super().__init__(f"{secret} is used up: a second use would reveal {reveals}")
        self.secret = secret
        self.reveals = reveals


@contextmanager
def mistakes_alone() -> Iterator[None]:
    """Take a user's mistake out of the group in which a `TaskGroup` raises it."""
    try:
        yield
    except BaseExceptionGroup as group:
        for mistake in _leaves(group):
            if isinstance(mistake, UserError):
                raise mistake from None
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
