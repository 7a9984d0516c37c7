"""Certificates made with openssl for a test: a CA, a server on 127.0.0.1, a client."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    ca: Pair
    server: Pair
    client: Pair

    def make_server_context(self, asks_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.cert, self.server.key)
        if asks_client:
            context.load_verify_locations(self.ca.cert)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificates(folder: Path, server: str = "IP:127.0.0.1") -> Certificates:
    """`server` is what the server's certificate is for, as openssl writes it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    ca = _make_pair(folder, "ca", ["keyUsage=critical,keyCertSign,cRLSign"], None)
    leaf = "basicConstraints=critical,CA:FALSE"
    return Certificates(
        ca,
        _make_pair(folder, "server", [leaf, f"subjectAltName={server}"], ca),
        _make_pair(folder, "client", [leaf, "extendedKeyUsage=clientAuth"], ca),
    )


def _make_pair(folder: Path, name: str, extensions: list[str], ca: Pair | None) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    signed = ["-CA", str(ca.cert), "-CAkey", str(ca.key)] if ca else []
    added = [word for extension in extensions for word in ("-addext", extension)]
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", f"/CN={name}", *added, *signed]
    words += ["-out", str(pair.cert), "-keyout", str(pair.key)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return pair
