"""Everything that fedring raises on purpose, by whose fault it is.

    FedringError
    ├── UserError           the user's to mend: one message, a hint, exit status 2, no traceback
    │   ├── ConfigError         a configuration file
    │   ├── DataError           a file of training data
    │   ├── CertificateError    a key or certificate file
    │   ├── BrokerError         a broker that cannot be reached or turns us away
    │   └── StateError          the state folder: models, rounds, budgets
    ├── PeerError           a peer's fault: logged, answered `refused`, never ends the process
    │   ├── MessageError        bytes that do not decode, or break a limit
    │   ├── IdentityError       a certificate or signature that does not hold
    │   ├── ProtocolError       well-formed and signed, but against the rules
    │   ├── PublicKeyError      a Paillier key that no honest coordinator would announce
    │   ├── BodyError           a body that no honest member could have made
    │   └── ReleaseError        a release that no honest contributor could have made
    ├── SumError            a check on the decrypted sum failed: the ring is void
    ├── UpdateError         training gave an update that cannot be contributed
    └── OneTimeError        a secret that serves once was used again: our own bug, never a peer's

Every `UserError` carries a name such as `config.unknown-key`; `docs/errors.md` has a section for
each, and a test holds names and page together.
"""


class FedringError(Exception):
    """Root of the tree: whatever fedring raises on purpose."""


class UserError(FedringError):
    """Something that the user can mend.

    Args:
        text: what is wrong, naming file, line, topic or address; no full stop at the end.
        name: what `docs/errors.md` calls it, e.g. `data.missing-column`.
        hint: what to do about it, where we know; may have several lines.
    """

    def __init__(self, text: str, *, name: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.name = name
        self.hint = hint


class ConfigError(UserError):
    """A configuration file is missing, is no TOML, or asks for what cannot be."""


class DataError(UserError):
    """A file of training data is missing, damaged, or has other columns than the model."""


class CertificateError(UserError):
    """A key or certificate file is missing, damaged, readable by others, or does not match."""


class BrokerError(UserError):
    """The broker cannot be reached, or turns us away."""


class StateError(UserError):
    """The state folder is in use, damaged, or holds something else than was asked for."""


class PeerError(FedringError):
    """Somebody else sent what must not be accepted.

    Args:
        reason: what was wrong with it, in words that may be sent back in a `refused`.
        sender: who sent it (device name or number), where known.
        kind: kind of the message, where known.
    """

    def __init__(self, reason: str, *, sender: str = "", kind: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.sender = sender
        self.kind = kind

    def __str__(self) -> str:
        about = " from ".join(part for part in (self.kind, self.sender) if part)
        return f"{about}: {self.reason}" if about else self.reason


class MessageError(PeerError):
    """Bytes that do not decode, or a value beyond its limit."""


class IdentityError(PeerError):
    """A certificate, signature or seal that does not hold."""


class ProtocolError(PeerError):
    """Well-formed and signed, but against the rules of the protocol."""


class PublicKeyError(PeerError):
    """A Paillier public key of the wrong size or shape."""


class BodyError(PeerError):
    """A body of the wrong length, or with values outside its group."""


class ReleaseError(PeerError):
    """A release of the wrong length, or with values that are no ciphertexts."""


class SumError(FedringError):
    """A check on the decrypted sum failed, so nothing of it is used.

    Args:
        check: which one: "key range" or "padding" (a release is bad), "noise", "count", "zero" or
            "range" (a body is bad).
        text: what was found, without any value of the sum.
    """

    def __init__(self, check: str, text: str = "") -> None:
        super().__init__(f"{check}: {text}" if text else check)
        self.check = check
        self.text = text


class UpdateError(FedringError):
    """Training gave NaN or an infinite value; nothing was rounded, nothing leaves the device.

    Args:
        layer: name of the array, or "" where only the flat vector is known.
        index: position in that array (or vector), counted flat.
        value: what stands there.
    """

    def __init__(self, layer: str, index: int, value: float) -> None:
        place = f"{layer}[{index}]" if layer else f"[{index}]"
        super().__init__(f"update{' ' if layer else ''}{place} is {value}")
        self.layer = layer
        self.index = index
        self.value = value


class OneTimeError(FedringError):
    """A secret that serves once was used again; the message says what that would reveal."""
