"""The TLS client side of a connection to the broker: who we are, and whom we trust.

TLS 1.3 with a client certificate, and no authority but the fleet's own: the operating system's
store of public authorities is never asked. What goes wrong while connecting (the broker's name or
authority) is the transport's to report; what is wrong with our own files is told here.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from fedring.shared.certificates import read_certificate
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the broker's name as well
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=ca_file)
    context.load_cert_chain(certificate_file, key_file)
    if not judge_dates:
        context.verify_flags |= _NO_CHECK_TIME
    return context
