"""Why a broker cannot be used, said by `probe` in words that a user can act on."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedring.shared.broker import Broker, at_some_name, probe, probe_tls, writable
from fedring.shared.errors import BrokerError, ConfigError

ACCEPTED = b"\x20\x02\x00\x00"


@contextlib.contextmanager
def server(
    serve: Callable[[socket.socket], object], address: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[int]:
    """A server on loopback for one connection; gives its port."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                serve(connection)

    with socket.create_server(address) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # nobody may have come
            thread.join()


def answering(answer: bytes, received: list[bytes]) -> Callable[[socket.socket], object]:
    def serve(connection: socket.socket) -> None:
        received.append(connection.recv(200))
        connection.sendall(answer)
        received.append(connection.recv(200))

    return serve


def failure(broker: Broker) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        probe(broker, "b01", timeout_s=2)
    return caught.value


@pytest.mark.parametrize(
    ("url", "host", "port", "text"),
    [
        ("mqtt://localhost:1884", "localhost", 1884, "localhost:1884"),
        ("mqtt://10.0.0.7/", "10.0.0.7", 1883, "10.0.0.7:1883"),
        ("mqtt://[::1]:1884", "::1", 1884, "[::1]:1884"),
    ],
)
def test_addresses(url: str, host: str, port: int, text: str) -> None:
    broker = Broker.from_url(url)
    assert (broker.host, broker.port, broker.tls, str(broker)) == (host, port, None, text)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://a",
        "mqtt://",
        "mqtt://a:0",
        "mqtt://a:65536",
        "mqtt://u@a",
        "mqtt://a/b",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address of an MQTT broker") as caught:
        Broker.from_url(url)
    assert caught.value.hint == "write it like mqtt://localhost:1883"


@pytest.mark.parametrize(("persistent", "flags"), [(True, 0), (False, 2)])
def test_a_broker_that_lets_us_in(persistent: bool, flags: int) -> None:
    received: list[bytes] = []
    with server(answering(ACCEPTED, received)) as port:
        probe(Broker("127.0.0.1", port), "b01", persistent=persistent)
    connect = b"\x10\x0f\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x0a\x00\x03b01"
    assert received == [connect, b"\xe0\x00"]


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(Broker("127.0.0.1", port))
    assert error.name == "broker.unreachable"
    assert error.text == f"no broker at 127.0.0.1:{port}: connection refused"


def test_names_that_are_no_host() -> None:
    error = failure(Broker("a" * 70))
    assert error.name == "broker.unreachable"


def test_the_broker_refuses() -> None:
    with server(answering(b"\x20\x02\x00\x05", [])) as port:
        error = failure(Broker("127.0.0.1", port))
    assert error.name == "broker.refused"
    assert error.text == f"the broker at 127.0.0.1:{port} refuses client b01: not authorised"


@pytest.mark.parametrize(
    ("answer", "what"), [(b"", "it hung up"), (b"HTTP/1.1 400", "it answered something else")]
)
def test_something_else_listens(answer: bytes, what: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(200)
        connection.sendall(answer)

    with server(serve) as port:
        error = failure(Broker("127.0.0.1", port))
    assert error.name == "broker.no-answer"
    assert error.text.endswith(f"does not answer as an MQTT broker: {what}")


def test_a_listener_that_says_nothing() -> None:
    def serve(connection: socket.socket) -> None:
        while connection.recv(200):
            pass

    with server(serve) as port, pytest.raises(BrokerError, match="no answer in time"):
        probe(Broker("127.0.0.1", port), "b01", timeout_s=0.2)


# TLS


class Certificates:
    """Certificate and key files for this test, all for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def issue(self, name: str) -> Path:
        """A self-signed certificate and its key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(key, hashes.SHA256())
        )
        file = self._folder / f"{name}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return file


def trusting(own: Path, other: Path, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(own)
    context.load_verify_locations(other)
    return context


def tls_broker(own: Path, clients: Path) -> Callable[[socket.socket], object]:
    context = trusting(own, clients, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(200)
            secured.sendall(ACCEPTED)
            secured.recv(200)

    return serve


def test_tls_on_both_sides(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    broker, board = certificates.issue("broker"), certificates.issue("board")
    context = trusting(board, broker, ssl.PROTOCOL_TLS_CLIENT)
    with server(tls_broker(broker, clients=board)) as port:
        probe(Broker("127.0.0.1", port, context), "b01")


def test_the_broker_refuses_our_certificate(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    broker, board, other = (certificates.issue(name) for name in ("broker", "board", "other"))
    context = trusting(board, broker, ssl.PROTOCOL_TLS_CLIENT)
    with server(tls_broker(broker, clients=other)) as port:
        error = failure(Broker("127.0.0.1", port, context))
    assert error.name == "broker.certificate-refused"
    assert "refuses our certificate: tls" in error.text


def test_the_broker_is_not_the_one_we_trust(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    broker, board, other = (certificates.issue(name) for name in ("broker", "board", "other"))
    context = trusting(board, other, ssl.PROTOCOL_TLS_CLIENT)
    with server(tls_broker(broker, clients=board)) as port:
        error = failure(Broker("127.0.0.1", port, context))
    assert error.name == "broker.untrusted"
    assert "is not the one we trust: self" in error.text


def alerting(reason: int) -> Callable[[socket.socket], object]:
    """Whatever else speaks TLS: it ends the handshake with an alert, as anybody can."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x15\x03\x03\x00\x02\x02" + bytes([reason]))
        connection.recv(1)

    return serve


def with_junk(own: Path, clients: Path) -> Callable[[socket.socket], object]:
    """The true broker, and somebody on the way who adds to what it says."""
    context = trusting(own, clients, ssl.PROTOCOL_TLS_SERVER)

    def serve(connection: socket.socket) -> None:
        secured = context.wrap_socket(connection, server_side=True)
        with socket.socket(fileno=secured.detach()) as plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            while plain.recv(4096):
                pass

    return serve


def with_damage(own: Path, clients: Path) -> Callable[[socket.socket], object]:
    """The true broker, and somebody on the way who damages what we say after the hello."""
    context = trusting(own, clients, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(arrived, leaving, server_side=True)
        arrived.write(connection.recv(4096))
        with contextlib.suppress(ssl.SSLWantReadError):
            session.do_handshake()
        connection.sendall(leaving.read())
        answer = connection.recv(4096)
        arrived.write(answer[:-1] + bytes([answer[-1] ^ 1]))
        with contextlib.suppress(ssl.SSLError):
            session.do_handshake()
        connection.sendall(leaving.read())
        connection.recv(4096)

    return serve


@pytest.mark.parametrize("reason", [40, 42, 44, 48, 70, 80, 116])
def test_an_alert_of_somebody_unknown_is_no_refusal(tmp_path: Path, reason: int) -> None:
    board = Certificates(tmp_path).issue("board")
    context = trusting(board, board, ssl.PROTOCOL_TLS_CLIENT)
    with server(alerting(reason)) as port:
        assert failure(Broker("127.0.0.1", port, context)).name == "broker.no-tls"


@pytest.mark.parametrize("disturbed", [with_junk, with_damage])
@pytest.mark.parametrize(
    "attempt", [lambda broker: probe(broker, "b01", timeout_s=5), probe_tls], ids=["mqtt", "tls"]
)
def test_a_disturbed_connection_is_no_refusal(
    tmp_path: Path,
    disturbed: Callable[[Path, Path], Callable[[socket.socket], object]],
    attempt: Callable[[Broker], None],
) -> None:
    certificates = Certificates(tmp_path)
    broker, board = certificates.issue("broker"), certificates.issue("board")
    context = trusting(board, broker, ssl.PROTOCOL_TLS_CLIENT)
    with server(disturbed(broker, board)) as port, pytest.raises(BrokerError) as caught:
        attempt(Broker("127.0.0.1", port, context))
    assert caught.value.name == "broker.no-answer"


class TestSomeName:
    def test_whoever_is_at_one_name_keeps_nobody_from_the_next(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        broker, board = certificates.issue("broker"), certificates.issue("board")
        context = trusting(board, broker, ssl.PROTOCOL_TLS_CLIENT)
        with (
            server(tls_broker(broker, clients=board)) as port,
            server(alerting(48), ("127.0.0.2", port)),
            server(tls_broker(broker, clients=board), ("127.0.0.3", port)),  # not in its name
        ):
            named = Broker("127.0.0.2", port, context, ("127.0.0.3", "a" * 70, "127.0.0.1"))
            assert at_some_name(named, lambda one: probe(one, "b01")).host == "127.0.0.1"

    def test_a_refusal_by_the_true_broker_is_final(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        broker, board, other = (certificates.issue(name) for name in ("broker", "board", "other"))
        context = trusting(board, broker, ssl.PROTOCOL_TLS_CLIENT)
        with server(tls_broker(broker, clients=other)) as port:
            named = Broker("127.0.0.1", port, context, ("127.0.0.2",))
            with pytest.raises(BrokerError) as caught:
                at_some_name(named, lambda one: probe(one, "b01"))
        assert caught.value.name == "broker.certificate-refused"

    def test_when_all_fail_each_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(BrokerError) as caught:
            at_some_name(
                Broker("127.0.0.1", port, None, ("a" * 70,)), lambda one: probe(one, "b01")
            )
        assert caught.value.name == "broker.unreachable"
        assert f"no broker at 127.0.0.1:{port}: connection refused; " in caught.value.text
        assert f"no broker at {'a' * 70}:{port}: " in caught.value.text


def test_tls_to_a_plain_port(tmp_path: Path) -> None:
    board = Certificates(tmp_path).issue("board")
    context = trusting(board, board, ssl.PROTOCOL_TLS_CLIENT)
    with server(answering(ACCEPTED, [])) as port:
        error = failure(Broker("127.0.0.1", port, context))
    assert error.name == "broker.no-tls"


def test_plain_to_a_tls_port(tmp_path: Path) -> None:
    broker = Certificates(tmp_path).issue("broker")
    with server(tls_broker(broker, clients=broker)) as port:
        error = failure(Broker("127.0.0.1", port))
    assert error.name == "broker.no-answer"
    assert error.hint.startswith("is this the port of its TLS listener")


def granting(*answers: bytes) -> Callable[[socket.socket], object]:
    """A broker of MQTT 5 that lets everybody in, and gives these answers to messages."""

    def serve(connection: socket.socket) -> None:
        connection.recv(200)
        connection.sendall(b"\x20\x03\x00\x00\x00")
        for answer in answers:
            connection.recv(200)
            connection.sendall(answer)
        connection.recv(200)

    return serve


def test_what_may_be_written_is_what_the_broker_acknowledges() -> None:
    answers = (b"\x40\x02\x00\x01", b"\x40\x04\x00\x02\x87\x00", b"\x40\x03\x00\x03\x10")
    with server(granting(*answers)) as port:
        allowed = writable(Broker("127.0.0.1", port), "probe", ["a", "b", "c"], timeout_s=2)
    assert allowed == [True, False, True]


@pytest.mark.parametrize("answer", [b"\x40\x02\x00\x07", b"\x30\x02\x00\x01", b"\x40"])
def test_another_answer_allows_nothing(answer: bytes) -> None:
    with server(granting(answer)) as port, pytest.raises(BrokerError) as caught:
        writable(Broker("127.0.0.1", port), "probe", ["a"], timeout_s=0.2)
    assert caught.value.name == "broker.no-answer"
