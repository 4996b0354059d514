"""The files of the API on TCP: a certificate of the moment with its key, and a token."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "correct-horse-battery-staple"


def write_pair(folder: Path, name: str = "gw1", password: bytes = b"", hosts: Sequence[str] = ()) -> None:
    """A certificate that vouches for itself, for 127.0.0.1 and these hosts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.IPAddress(ip_address("127.0.0.1")), *map(x509.DNSName, hosts)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    (folder / "api.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (folder / "api.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, hidden))


def write_half_a_pair(folder: Path) -> None:
    """A new certificate beside the old key."""
    key = (folder / "api.key").read_bytes()
    write_pair(folder)
    (folder / "api.key").write_bytes(key)


def write_token(folder: Path, token: str = TOKEN, mode: int = 0o600) -> Path:
    path = folder / "api.token"
    path.write_text(f"{token}\n")
    path.chmod(mode)
    return path
