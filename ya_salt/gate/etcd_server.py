"""One request to one etcd server, through etcd3gw, that ends in time whatever the other end does.

Each request has a thread of its own, which is left behind when time is over, wherever it hangs (a
resolver of names included). What is left behind sends nothing more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ya_salt.gate.etcd_attempt import Attempt

if TYPE_CHECKING:
    from etcd3gw.client import Etcd3Client
    from etcd3gw.exceptions import Etcd3Exception
    from requests import Session


PORT = 2379
"""Where a URL names none."""


class UnsentError(Exception):
    """The server never got the request."""


class LostError(Exception):
    """The request may have been sent, and no answer of etcd's came back."""


class AnsweredError(Exception):
    """etcd answered with an error: gRPC's status code and etcd's own words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Tls:
    """Files in PEM; "": the system's certificates, no certificate of ours."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Server:
    """One endpoint. May be used by several threads at once."""

    def __init__(self, url: str, tls: Tls) -> None:
        parts = urlsplit(url)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._protocol = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or PORT
        self._tls = tls
        self._session: Session | None = None

    def post(self, path: str, payload: object, token: str, within_s: float) -> Mapping[str, Any]:
        """The answer to `payload` posted to /v3/`path`.

        Raises UnsentError, LostError, AnsweredError.
        """
        attempt = Attempt()
        call = _Call(self._make_client(within_s), path, payload, token, attempt)
        thread = threading.Thread(target=call.run, name=f"etcd {self.url}", daemon=True)
        thread.start()
        thread.join(within_s)
        outcome = call.outcome
        if outcome is None:
            # Its connection may still be in use: nobody else gets it.
            self._session = None
            raise _describe_loss(attempt.abandon(), "no answer in time")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _make_client(self, within_s: float) -> Etcd3Client:
        """Cheap: what costs something, the connections, is the session's."""
        # 120 ms, which only hosts with this gate pay.
        from etcd3gw.client import Etcd3Client  # noqa: PLC0415

        return Etcd3Client(
            self._host,
            self._port,
            self._protocol,
            timeout=within_s,
            api_path="/v3/",
            session=self._find_session(),
        )

    def _find_session(self) -> Session:
        from ya_salt.gate.etcd_session import make_session  # noqa: PLC0415 - as above

        session = self._session
        if session is None:
            session = self._session = make_session(self._tls)
        return session


class _Call:
    """What the thread does. It is over as soon as there is an outcome."""

    def __init__(
        self, client: Etcd3Client, path: str, payload: object, token: str, attempt: Attempt
    ) -> None:
        self._client = client
        self._path = path
        self._payload = payload
        self._headers = {"Authorization": token} if token else {}
        self._attempt = attempt
        self.outcome: Mapping[str, Any] | Exception | None = None

    def run(self) -> None:
        try:
            with self._attempt:
                self.outcome = self._post()
        except (UnsentError, LostError, AnsweredError) as error:
            self.outcome = error
        except Exception as error:  # noqa: BLE001 - raised by whoever waits for the thread
            self.outcome = _describe_loss(self._attempt.is_sent, _explain(error))

    def _post(self) -> Mapping[str, Any]:
        from etcd3gw.exceptions import Etcd3Exception  # noqa: PLC0415 - as above

        url = self._client.get_url(self._path)
        try:
            answer = self._client.post(
                url, json=self._payload, headers=self._headers, allow_redirects=False
            )
        except Etcd3Exception as error:
            raise self._translate(error) from error
        if not isinstance(answer, dict):
            raise LostError("what answered is no etcd")
        if "error" in answer:
            raise _parse_error(json.dumps(answer))
        return answer

    def _translate(self, error: Etcd3Exception) -> Exception:
        """etcd3gw has the same exceptions for a broken connection and for an answer with a 503."""
        if isinstance(error.__context__, OSError):
            return _describe_loss(self._attempt.is_sent, _explain(error))
        return _parse_error(error.detail_text or "", " ".join(str(word) for word in error.args))


def _parse_error(text: str, reason: str = "") -> Exception:
    """{"code", "message" or "error"}, or for streams {"error": {"grpc_code", "message"}}."""
    try:
        data = json.loads(text)
        if isinstance(data["error"], dict):
            data = {"code": data["error"]["grpc_code"], **data["error"]}
        return AnsweredError(int(data["code"]), str(data.get("message") or data["error"])[:300])
    except (ValueError, KeyError, TypeError):
        words = f"{reason} {' '.join(text.split())[:200]}".strip()
        return LostError(f"what answered is no etcd: {words}")


def _describe_loss(is_sent: bool, words: str) -> Exception:
    return LostError(words) if is_sent else UnsentError(words)


def _find_wrapped(error: BaseException) -> BaseException | None:
    """Requests and urllib3 hand some on in their own without having caught them."""
    return next((item for item in error.args if isinstance(item, BaseException)), None)


def _explain(error: BaseException) -> str:
    """The innermost failure of the network tells a person most."""
    found: BaseException = error
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError | HTTPException):
            found = inner
        inner = inner.__cause__ or inner.__context__ or _find_wrapped(inner)
    words = getattr(found, "strerror", None) or str(found) or type(found).__name__
    return str(words).strip()[:300]
