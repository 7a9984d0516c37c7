"""Connections of requests that ask before they send, and take no answer without an end.

Importing this costs what requests costs.
"""

from __future__ import annotations

import contextlib
import io
import select
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from ya_salt.gate.etcd_attempt import begin_sending
from ya_salt.gate.etcd_server import Tls

MAX_ANSWER_BYTES = 64 << 20
"""All holders of a rule for a hundred thousand hosts."""
_VERDICT_MS = 100


class _Connection(HTTPConnection):
    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        begin_sending()
        super().send(data)


class _TlsConnection(HTTPSConnection):
    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        begin_sending()
        super().send(data)

    def connect(self) -> None:
        super().connect()
        connected: Any = self.sock
        if connected.version() == "TLSv1.3":
            _read_verdict(connected)


def _read_verdict(connected: ssl.SSLSocket) -> None:
    """Raise what the server thinks of our certificate, which it looks at after the handshake.

    Whoever sends right away may find the connection broken and never learn why. A server that lets
    us in sends tickets instead.
    """
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    if not poll.poll(_VERDICT_MS):
        return
    timeout_s = connected.gettimeout()
    connected.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        connected.recv(1)
    connected.settimeout(timeout_s)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        try:
            body = resp.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        except HTTPError as error:
            response.close()
            raise requests.exceptions.ConnectionError(error) from error
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise requests.exceptions.ConnectionError("the answer has no end")
        response.raw = io.BytesIO(body)
        return response


def make_session(tls: Tls) -> requests.Session:
    """A session without proxies, netrc and cookies of the environment."""
    session = requests.Session()
    session.trust_env = False
    session.headers.update({"User-Agent": "ya-salt", "Accept-Encoding": "identity"})
    session.verify = tls.ca_file or True
    if tls.cert_file:
        session.cert = (tls.cert_file, tls.key_file) if tls.key_file else tls.cert_file
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session
