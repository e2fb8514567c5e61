"""`rediss://` with a user and a password, over real TLS: a proxy that ends it stands before the server."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from innkeeper_engine.store.connection import Address, StoreUnavailableError
from innkeeper_engine.store.store import Store, StoreSettings
from tests.conftest import ValkeyProcess

PRIVATE = StoreSettings(prefix="{test-tls}:")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that trusts itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "innkeeper test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def tls_before(address: Address, cert_file: Path, key_file: Path) -> AsyncIterator[int]:
    """A port of 127.0.0.1 that speaks TLS and passes on to the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(address.path)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_tls_with_user_and_password(
    private_valkey: Callable[..., ValkeyProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's certificate is checked against what the machine trusts (SSL_CERT_FILE), its name too."""
    server = private_valkey(
        "--user", "ink", "on", ">p@ss/word", "~*", "+@all", "&*", "--user", "default", "off"
    ).address
    cert_file, key_file = certificate(tmp_path)
    async with tls_before(server, cert_file, key_file) as port:
        url = f"rediss://ink:p%40ss%2Fword@127.0.0.1:{port}/0"
        stranger = Store(Address.parse(url), PRIVATE)
        with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
            await stranger.open(1)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
        store = Store(Address.parse(url), PRIVATE)
        await store.open()
        assert await store.command("PING") == b"PONG"
        assert (await store.due()).leases == []
        await store.close()
        wrong = Store(Address.parse(f"rediss://ink:other@127.0.0.1:{port}/0"), PRIVATE)
        with pytest.raises(StoreUnavailableError, match="WRONGPASS") as refused:
            await wrong.open(1)
        assert "other" not in str(refused.value)
