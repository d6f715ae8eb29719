"""Where a broker is, whether it lets us in, and what we may write there.

This speaks just enough MQTT (CONNECT, CONNACK, PUBLISH, PUBACK, DISCONNECT) to say in the user's
words why a broker cannot be used: under TLS 1.3 it judges our certificate only after the handshake,
and MQTT libraries show that as a time-out.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import attrs
from attrs import frozen

from fedring.shared.errors import BrokerError, ConfigError

PORT: Final = 1883
HOST: Final = (
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"
    r"|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)"
)
"""A host name that can be looked up, or an address; never with a port."""
_ADDRESS: Final = re.compile(r"mqtt://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+)(?::([0-9]{1,5}))?/?")

_OF_OUR_CERTIFICATE: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In OpenSSL's names of alerts; whoever is on the way brings about others."""

_DISCONNECT: Final = b"\xe0\x00"
_NO_PROPERTIES: Final = {4: b"", 5: b"\x00"}

# MQTT 3.1.1, section 3.2.2.3
_REFUSALS: Final = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not take this client id",
    3: "it is not available",
    4: "bad user name or password",
    5: "not authorised",
}


@frozen
class Broker:
    """Where a broker listens.

    Attributes:
        host: name or address.
        port: 1 to 65535.
        tls: how to speak TLS with it, None for plain MQTT.
        others: names and addresses of the same broker.
    """

    host: str
    port: int = PORT
    tls: ssl.SSLContext | None = None
    others: tuple[str, ...] = ()

    @property
    def next(self) -> Broker:
        """The same broker at the next of its names; itself when there is only one."""
        host, *others = *self.others, self.host
        return attrs.evolve(self, host=host, others=tuple(others))

    def at_each_name(self) -> Iterator[Broker]:
        """The same broker at each of its names, in turn."""
        broker = self
        for _ in (self.host, *self.others):
            yield broker
            broker = broker.next

    @classmethod
    def from_url(cls, url: str) -> Broker:
        """Read `mqtt://host:port`; the port may be left out.

        Raises:
            ConfigError: not such an address.
        """
        found = _ADDRESS.fullmatch(url)
        port = int(found[2] or PORT) if found else 0
        if not found or not 1 <= port <= 65_535:
            raise ConfigError(
                f"{url!r} is not the address of an MQTT broker",
                name="config.broker-address",
                hint=f"write it like mqtt://localhost:{PORT}",
            )
        return cls(found[1].strip("[]"), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def at_some_name(broker: Broker, attempt: Callable[[Broker], None]) -> Broker:
    """Make an attempt at one name of a broker after the other, and give where it succeeded.

    Raises:
        BrokerError: it failed at each; or the broker refused our certificate, as it would anywhere.
    """
    failures = []
    for named in broker.at_each_name():
        try:
            attempt(named)
        except BrokerError as error:
            if error.name == "broker.certificate-refused":
                raise
            failures.append(error)
        else:
            return named
    raise failed_everywhere(failures)


def failed_everywhere(failures: Sequence[BrokerError]) -> BrokerError:
    """What failed at each name of a broker, in one."""
    first = failures[0]
    return BrokerError("; ".join(one.text for one in failures), name=first.name, hint=first.hint)


def probe(broker: Broker, client_id: str, *, persistent: bool = True, timeout_s: float = 5) -> None:
    """Connect to a broker once and leave again.

    Args:
        broker: where.
        client_id: as whom. A connection of the same id is thrown off by the broker, as ever.
        persistent: keep the session that the broker holds for this id; False ends it.
        timeout_s: longest wait for each answer, in seconds, > 0.

    Raises:
        BrokerError: it cannot be reached, is no MQTT broker, or does not let us in.
    """
    with _open(broker, timeout_s) as connection:
        enter(connection, broker, client_id, persistent=persistent)
        connection.sendall(_DISCONNECT)


def writable(
    broker: Broker, client_id: str, topics: Iterable[str], timeout_s: float = 5
) -> list[bool]:
    """Tell to which topics a broker lets us write, by an empty message to each.

    Args:
        broker: where.
        client_id: as whom. A connection of the same id is thrown off by the broker.
        topics: of at most 100 characters.
        timeout_s: longest wait for each answer, in seconds, > 0.

    Raises:
        BrokerError: as `probe`.

    Source: MQTT 5.0, section 3.4.2.1; only this version says that a publish is not allowed.
    """
    allowed = []
    with _open(broker, timeout_s) as connection:
        enter(connection, broker, client_id, persistent=False, version=5)
        for number, topic in enumerate(topics, start=1):
            packet_id = number.to_bytes(2, "big")
            answer = _ask(connection, broker, _publish_packet(topic, packet_id))
            if answer[:1] != b"\x40" or answer[1:3] != packet_id:
                raise _no_answer(broker, "it answered something else" if answer else "it hung up")
            allowed.append(answer[3:4] < b"\x80")  # left out when it is 0
        connection.sendall(_DISCONNECT)
    return allowed


def enter(
    connection: socket.socket,
    broker: object,
    client_id: str,
    *,
    persistent: bool,
    version: Literal[4, 5] = 4,
) -> None:
    """Introduce ourselves on a fresh connection.

    Args:
        connection: with its longest wait set.
        broker: what it leads to, for messages.
        client_id: as whom.
        persistent: as in `probe`.
        version: of MQTT, 4 for 3.1.1.

    Raises:
        BrokerError: the other side is no MQTT broker, or does not let us in.
    """
    answer = _ask(connection, broker, _connect_packet(client_id, version, persistent=persistent))
    if answer[:1] != b"\x20" or len(answer) < 3:
        raise _no_answer(broker, "it answered something else" if answer else "it hung up")
    if answer[2] != 0:
        raise BrokerError(
            f"the broker at {broker} refuses client {client_id}: "
            + _REFUSALS.get(answer[2], f"code {answer[2]}"),
            name="broker.refused",
            hint="its log says why; users, certificates and access list are in its settings",
        )


def _ask(connection: socket.socket, broker: object, packet: bytes) -> bytes:
    """Send a packet; give what comes back, without its length. Empty: it hung up."""
    with contextlib.suppress(OSError):  # when it hung up, its reason is still to be read
        connection.sendall(packet)
    try:
        head = _read(connection, 2)
        body = _read(connection, head[1]) if len(head) == 2 else b""
    except OSError as error:
        raise _broken(broker, error) from error
    return head[:1] + body


def probe_tls(broker: Broker, *, timeout_s: float = 5, patience_s: float = 1) -> None:
    """See that a broker lets us in as far as TLS goes, and disturb nobody: no MQTT is spoken.

    Args:
        broker: where.
        timeout_s: longest wait to be reached, in seconds, > 0.
        patience_s: under TLS 1.3 our certificate is judged after the handshake; how long the
            broker may take to refuse it, in seconds, > 0.

    Raises:
        BrokerError: it cannot be reached, is another one, or refuses our certificate.
    """
    with _open(broker, timeout_s) as connection:
        connection.settimeout(patience_s)
        try:
            connection.recv(1)  # a broker that has let us in waits for us to speak
        except TimeoutError:
            return
        except OSError as error:
            raise _broken(broker, error) from error
        raise _no_answer(broker, "it hung up")


def unreachable(broker: Broker, why: OSError | UnicodeError) -> BrokerError:
    """What to say of a broker to which no connection can be made."""
    return BrokerError(
        f"no broker at {broker}: {_words(why)}",
        name="broker.unreachable",
        hint="start the broker, or correct its host and port in the settings",
    )


def _open(broker: Broker, timeout_s: float) -> socket.socket:
    try:
        plain = socket.create_connection((broker.host, broker.port), timeout_s)
    except (OSError, UnicodeError) as error:  # the latter for names that no host can have
        raise unreachable(broker, error) from error
    if broker.tls is None:
        return plain
    try:
        return broker.tls.wrap_socket(plain, server_hostname=broker.host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise BrokerError(
            f"the broker at {broker} is not the one we trust: {error.verify_message}",
            name="broker.untrusted",
            hint="its certificate must come from the fleet's authority and name this host",
        ) from error
    except OSError as error:
        plain.close()
        # Under TLS 1.3 nobody has seen our certificate yet, and an alert may be anybody's.
        raise BrokerError(
            f"the broker at {broker} does not speak TLS here: {_words(error)}",
            name="broker.no-tls",
            hint="give the port of its TLS listener, often 8883",
        ) from error


def _connect_packet(client_id: str, version: int, *, persistent: bool) -> bytes:
    flags = 0 if persistent else 2
    keepalive_s = 10
    head = b"\x00\x04MQTT" + bytes([version, flags]) + keepalive_s.to_bytes(2, "big")
    return _packet(0x10, head + _NO_PROPERTIES[version] + _text(client_id))


def _publish_packet(topic: str, packet_id: bytes) -> bytes:
    """An empty message of QoS 1 under MQTT 5."""
    return _packet(0x32, _text(topic) + packet_id + _NO_PROPERTIES[5])


def _packet(kind: int, body: bytes) -> bytes:
    if len(body) > 127:
        raise ValueError(f"packet of {len(body)} bytes")
    return bytes([kind, len(body)]) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _read(connection: socket.socket, n_bytes: int) -> bytes:
    """Read `n_bytes`, or fewer when the other side hangs up."""
    data = b""
    while len(data) < n_bytes and (more := connection.recv(n_bytes - len(data))):
        data += more
    return data


def _broken(broker: object, error: OSError) -> BrokerError:
    """What it means that a connection ended so, whose other side has proven who it is."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    if "ALERT" not in reason or not any(word in reason for word in _OF_OUR_CERTIFICATE):
        return _no_answer(broker, _words(error))
    return BrokerError(
        f"the broker at {broker} refuses our certificate: {_words(error)}",
        name="broker.certificate-refused",
        hint="it must come from the authority that this broker trusts, and not be revoked",
    )


def _no_answer(broker: object, what: str) -> BrokerError:
    return BrokerError(
        f"{broker} does not answer as an MQTT broker: {what}",
        name="broker.no-answer",
        hint="is this the port of its TLS listener, or of another service?",
    )


def _words(error: OSError | UnicodeError) -> str:
    """What went wrong, without numbers and source lines."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return (getattr(error, "strerror", None) or str(error)).lower()
