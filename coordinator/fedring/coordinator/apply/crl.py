"""The CRL that a broker is about to get: would Mosquitto read it, and let the right ones in?

A list that Mosquitto cannot read at a reload lets all revoked certificates in again; one that is
not valid now locks everybody out. So it is judged before it replaces another one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedring.shared.errors import BrokerError

_BEGIN: Final = b"-----BEGIN X509 CRL-----\n"
_END: Final = b"-----END X509 CRL-----\n"


@frozen
class Touchstones:
    """Two certificates that are alike but for one thing: the first is revoked.

    Attributes:
        canary: revoked for ever.
        probe: good.
        ca: the authority that issued both.
    """

    canary: x509.Certificate
    probe: x509.Certificate
    ca: x509.Certificate

    @classmethod
    def read(cls, canary: bytes, probe: bytes, ca: bytes) -> Touchstones:
        """Read the three from PEM.

        Raises:
            BrokerError: one is no certificate.
        """
        try:
            return cls(*map(x509.load_pem_x509_certificate, (canary, probe, ca)))
        except ValueError as error:
            raise _unfit("a certificate of canary, probe or authority is damaged") from error

    def check(self, now: datetime) -> None:
        """See that nothing but the CRL can keep the canary out, and nothing the probe.

        Raises:
            BrokerError: one of them is not valid now, or not issued by the authority for clients.
        """
        for name, certificate in (("canary", self.canary), ("probe", self.probe)):
            try:
                certificate.verify_directly_issued_by(self.ca)
                usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
            except Exception as error:  # of several libraries, for whatever is wrong with it
                raise _unfit(f"the {name}'s certificate is not the authority's") from error
            if ExtendedKeyUsageOID.CLIENT_AUTH not in usage.value:
                raise _unfit(f"the {name}'s certificate is not for a client")
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                raise _unfit(
                    f"the {name}'s certificate is not valid at {now:%Y-%m-%d %H:%M} UTC,"
                    " by the clock of this machine"
                )


def check_crl(crl: bytes, touchstones: Touchstones, now: datetime, *, before: bytes | None) -> None:
    """Return if a broker may get this list.

    Args:
        crl: content of the file.
        touchstones: who must be on it, and who must not.
        now: UTC.
        before: the list that the broker has, if any.

    Raises:
        BrokerError: damaged, not the authority's, not valid now, older than `before`, without the
            canary or with the probe on it.
    """
    revoked = _read(crl, touchstones.ca)
    if revoked is None:
        raise _unfit("it is damaged, or not the fleet authority's")
    until = revoked.next_update_utc
    if until is None or not revoked.last_update_utc <= now < until:
        raise _unfit(
            f"it is valid from {revoked.last_update_utc:%Y-%m-%d} to {until or revoked:%Y-%m-%d},"
            f" and by the clock of this machine it is {now:%Y-%m-%d %H:%M} UTC:"
            " nobody would get in"
        )
    if revoked.get_revoked_certificate_by_serial_number(touchstones.canary.serial_number) is None:
        raise _unfit("the canary is not on it")
    if revoked.get_revoked_certificate_by_serial_number(touchstones.probe.serial_number):
        raise _unfit("the probe is on it")
    earlier = _read(before, touchstones.ca) if before is not None else None
    if earlier is not None and _number(earlier) > _number(revoked):
        raise _unfit(
            f"it has number {_number(revoked)}, and the broker has {_number(earlier)} already"
        )


def _read(crl: bytes, ca: x509.Certificate) -> x509.CertificateRevocationList | None:
    key = ca.public_key()
    # Nothing before, nothing after: Mosquitto reads all that the file holds.
    if not crl.startswith(_BEGIN) or crl.find(_END) != len(crl) - len(_END):
        return None
    try:
        parsed = x509.load_pem_x509_crl(crl)
        trusted = isinstance(key, ec.EllipticCurvePublicKey) and parsed.is_signature_valid(key)
        _number(parsed)
    except (ValueError, x509.ExtensionNotFound):
        return None
    return parsed if trusted and parsed.issuer == ca.subject else None


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _unfit(what: str) -> BrokerError:
    return BrokerError(
        f"list of revoked certificates for the broker: {what}",
        name="broker.revoked-list",
        hint="nothing was changed; take the newest folder of the owner's machine, and look at the"
        " clocks of both machines",
    )
