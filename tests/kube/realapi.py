"""A real kube-apiserver with its etcd, started for a test session from the binaries that envtest uses."""

import contextlib
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.kube.errors import Obj

_START_S = 60
_STOP_S = 20
_POLL_S = 0.1
_MAY_SIGN = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class ApiServer:
    """etcd, kube-apiserver with RBAC, and kube-controller-manager if its binary is there; all on loopback.

    `binaries` is the folder of the binaries, `directory` an empty one for their data and logs.
    """

    def __init__(self, binaries: Path, directory: Path) -> None:
        for name in ("etcd", "kube-apiserver"):
            if not (binaries / name).is_file():
                raise FileNotFoundError(
                    f"KUBEBUILDER_ASSETS is {binaries}, but there is no {name} in it (setup-envtest downloads them)"
                )
        self._binaries = binaries
        self._directory = directory
        self._processes: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []
        self.token = secrets.token_hex(16)
        self.has_controllers = (binaries / "kube-controller-manager").is_file()
        self.port = _free_port()
        self._etcd_port = _free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """What runs, in the order it was started."""
        return [process for _, process, _ in self._processes]

    def config(self) -> Obj:
        """A kubeconfig of an admin."""
        cluster = {"server": self.url, "certificate-authority": str(self._directory / "ca.crt")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes, the last started first, each by its own pid."""
        while self._processes:
            _, process, log = self._processes.pop()
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()

    def _start(self) -> None:
        self._write_credentials()
        peer = f"http://127.0.0.1:{_free_port()}"
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        self._run(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self._await("etcd", lambda: httpx.get(f"{etcd}/health", trust_env=False).is_success)
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self._directory / 'certs'}",
            f"--tls-cert-file={self._directory / 'server.crt'}",
            f"--tls-private-key-file={self._directory / 'server.key'}",
            f"--token-auth-file={self._directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._directory / 'accounts.pub'}",
            f"--service-account-signing-key-file={self._directory / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        )
        headers = {"Authorization": f"Bearer {self.token}"}
        tls = ssl.create_default_context(cafile=self._directory / "ca.crt")
        with httpx.Client(verify=tls, headers=headers, trust_env=False) as client:
            self._await("kube-apiserver", lambda: client.get(f"{self.url}/readyz").is_success)
        if self.has_controllers:
            kubeconfig = self._directory / "admin.kubeconfig"
            kubeconfig.write_text(yaml.safe_dump(self.config()))
            self._run(
                "kube-controller-manager",
                f"--kubeconfig={kubeconfig}",
                "--bind-address=127.0.0.1",
                f"--secure-port={_free_port()}",
                f"--cert-dir={self._directory / 'certs'}",
                "--leader-elect=false",
                "--controllers=garbage-collector-controller,namespace-controller",
            )

    def _run(self, name: str, *options: str) -> None:
        log = (self._directory / f"{name}.log").open("wb")
        process = subprocess.Popen(
            [str(self._binaries / name), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
        )
        self._processes.append((name, process, log))

    def _await(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Ask until it is ready: these programs tell nobody."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            _, process, _ = self._processes[-1]
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self._log(name)}")
            with contextlib.suppress(httpx.TransportError):
                if is_ready():
                    return
            time.sleep(_POLL_S)
        raise RuntimeError(f"{name} was not ready within {_START_S} s:\n{self._log(name)}")

    def _log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text(errors="replace")[-4000:]

    def _write_credentials(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("test-ca", key, None, None)
        server_key = ec.generate_private_key(ec.SECP256R1())
        server = _certificate("127.0.0.1", server_key, key, authority)
        accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM
        files: Sequence[tuple[str, bytes]] = (
            ("ca.crt", authority.public_bytes(pem)),
            ("server.crt", server.public_bytes(pem)),
            ("server.key", _private(server_key)),
            ("accounts.key", _private(accounts)),
            (
                "accounts.pub",
                accounts.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo),
            ),
            ("tokens.csv", f'{self.token},admin,admin,"system:masters"\n'.encode()),
        )
        for name, content in files:
            path = self._directory / name
            path.touch(mode=0o600)
            path.write_bytes(content)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signing_key: ec.EllipticCurvePrivateKey | None,
    authority: x509.Certificate | None,
) -> x509.Certificate:
    """A certificate for the loopback address, or that of an authority if none signs it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(key_id, critical=False)
    if authority is None:
        builder = builder.add_extension(_MAY_SIGN, critical=True)
    elif signing_key is not None:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        names = [x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signing_key or key, hashes.SHA256())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
