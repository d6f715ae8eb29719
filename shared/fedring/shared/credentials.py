"""The files that say who we are: loaded together, checked against each other, used for TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from attrs import frozen

from fedring.shared.broker import Broker
from fedring.shared.config import BrokerSettings
from fedring.shared.errors import CertificateError, PeerError
from fedring.shared.identity import Authority, Identity, Role
from fedring.shared.tls import tls_context


class Files(Protocol):
    """Where a part's settings say that the files are."""

    @property
    def ca(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def certificate(self) -> Path: ...


@frozen
class Credentials:
    """Own identity, and the fleet authority behind it.

    Attributes:
        identity: own key and certificate.
        authority: the fleet's.
        files: where they came from.
    """

    identity: Identity
    authority: Authority
    files: Files

    @classmethod
    def load(cls, files: Files, role: Role) -> Credentials:
        """Read key, certificate and the authority's certificate.

        Raises:
            CertificateError: a file is missing or damaged, the three are not of one fleet, or the
                certificate is for another role.
        """
        identity = Identity.load(files.key, files.certificate)
        authority = Authority.load(files.ca)
        try:
            authority.peer(identity.certificate)
        except PeerError as fault:
            raise CertificateError(
                f"{files.certificate}: {fault.reason}",
                name="certificate.foreign",
                hint=f"use files of one fleet; the authority here is {files.ca}",
            ) from fault
        if identity.role is not role:
            raise CertificateError(
                f"{files.certificate} is the certificate of a {identity.role}, not of a {role}",
                name="certificate.role",
                hint="`fedring fleet` makes a folder for the coordinator and one for each device",
            )
        return cls(identity, authority, files)

    def broker(self, settings: BrokerSettings, *, judge_dates: bool) -> Broker:
        """The broker of these settings, spoken to with these files; see `tls_context`."""
        files = self.files
        tls = None
        if settings.tls:
            tls = tls_context(files.ca, files.certificate, files.key, judge_dates=judge_dates)
        return Broker(settings.host, settings.port, tls, settings.others)
