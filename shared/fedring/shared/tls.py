"""The TLS client side of a connection to the broker: who we are, and whom we trust.

TLS 1.3 with a client certificate, and no authority but the fleet's own: the operating system's
store of public authorities is never asked. What goes wrong while connecting (the broker's name or
authority) is the transport's to report; what is wrong with our own files is told here.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.shared.certificates import read_certificate, read_private_key, validity
from fedring.shared.errors import CertificateError, IdentityError
from fedring.shared.identity import Authority, Identity

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python's `ssl.VerifyFlags` has no name for it.
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)


def tls_context(
    ca_file: Path, certificate_file: Path, key_file: Path, *, judge_dates: bool
) -> ssl.SSLContext:
    """Give the settings for a connection to the broker of the fleet.

    Args:
        ca_file: the fleet authority's certificate, PEM; the broker's must be issued by it.
        certificate_file: our own certificate, PEM, issued by the same authority.
        key_file: the key to it, PEM, readable by its owner only.
        judge_dates: refuse a broker's certificate that is not yet or no longer valid. False on
            boards: without a clock of their own they may live years in the past.

    Raises:
        CertificateError: a file is missing, damaged or readable by others; the key does not match
            the certificate; the certificate is another authority's.
    """
    Identity.load(key_file, certificate_file)
    authority = Authority.load(ca_file)
    try:
        authority.peer(read_certificate(certificate_file).public_bytes(Encoding.DER))
    except IdentityError as error:
        raise CertificateError(
            f"{certificate_file}: {error.reason}; {ca_file} belongs to fleet {authority.fleet}",
            name="certificate.wrong-authority",
            hint="take ca.crt, certificate and key from one folder made by `fedring fleet`",
        ) from error
    context = _context(ca_file)
    context.load_cert_chain(certificate_file, key_file)
    if not judge_dates:
        context.verify_flags |= _NO_CHECK_TIME
    return context


def owner_context(ca_file: Path, certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """Give the settings for the owner's machine, whose certificate is for no role of the protocol.

    Args:
        ca_file: the fleet authority's certificate, PEM; the broker's must be issued by it.
        certificate_file: our own certificate, PEM.
        key_file: the key to it, PEM, readable by its owner only.

    Raises:
        CertificateError: a file is missing, damaged or readable by others; the key does not match
            the certificate.
    """
    Authority.load(ca_file)
    key, certificate = read_private_key(key_file), read_certificate(certificate_file)
    if key.public_key() != certificate.public_key():
        raise CertificateError(
            f"{certificate_file} is not the certificate of {key_file}",
            name="certificate.unusable",
            hint="make both anew: fedring fleet renew",
        )
    context = _context(ca_file)
    context.load_cert_chain(certificate_file, key_file)
    return context


def nameless_context(ca_file: Path, *, earliest: datetime) -> ssl.SSLContext:
    """Give the settings for a connection of somebody who has no certificate yet.

    Its clock may be years back. OpenSSL would judge dates by that, and Python offers no other
    time to it; so it judges none, and the end of the broker's certificate is looked at here,
    against the later of `earliest` and the clock. A beginning cannot be judged without a clock.

    Args:
        ca_file: the fleet authority's certificate, PEM; the broker's must be issued by it.
        earliest: when this machine was still in its owner's hands.

    Raises:
        CertificateError: the file is missing, damaged, or no authority's.
    """
    Authority.load(ca_file)
    context = _context(ca_file)
    context.verify_flags |= _NO_CHECK_TIME

    class NotEnded(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            certificate = x509.load_der_x509_certificate(self.getpeercert(binary_form=True) or b"")
            if validity(certificate)[1] < max(earliest, datetime.now(UTC)):
                error = ssl.SSLCertVerificationError("the broker's certificate has ended")
                error.verify_message = "certificate has expired"
                raise error

    context.sslsocket_class = NotEnded
    return context


def _context(ca_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the broker's name as well
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=ca_file)
    return context
