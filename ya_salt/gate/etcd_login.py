"""Ask as etcd's user: a token for all requests, a new one where etcd no longer knows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ya_salt.errors import GateError
from ya_salt.gate.etcd_server import AnsweredError, LostError, Server, UnsentError
from ya_salt.gate.secretfile import read_secret

_FAILED_PRECONDITION = 9
_PERMISSION_DENIED = 7
_UNAUTHENTICATED = 16
_NO_TOKEN = ("user name is empty", "auth store is old")
"""With these it answers whoever has no token or one from before somebody changed the roles."""


class Login:
    """`username` of "" asks as nobody; the password is read whenever it is needed."""

    def __init__(self, username: str, password_file: str) -> None:
        self._username = username
        self._password_file = password_file
        self._token: str | None = None
        """Good on all servers. "" where etcd has no users at all; None where not yet known."""

    def post(
        self, server: Server, path: str, payload: object, within_s: float
    ) -> Mapping[str, Any]:
        """Like `Server.post`; GateError where etcd refuses who we are."""
        until = time.monotonic() + within_s
        token = self._token
        if token is None:
            token = self._renew(server, within_s)
        try:
            return server.post(path, payload, token, until - time.monotonic())
        except AnsweredError as error:
            if not self._username or not _is_about_token(error):
                raise self._judge(server, error) from error
        token = self._renew(server, until - time.monotonic())
        try:
            return server.post(path, payload, token, until - time.monotonic())
        except AnsweredError as error:
            raise self._judge(server, error) from error

    def _renew(self, server: Server, within_s: float) -> str:
        self._token = self._fetch(server, within_s) if self._username else ""
        return self._token

    def _fetch(self, server: Server, within_s: float) -> str:
        password = read_secret(self._password_file) if self._password_file else ""
        payload = {"name": self._username, "password": password}
        try:
            return str(server.post("auth/authenticate", payload, "", within_s)["token"])
        except (LostError, KeyError) as error:
            # What was to be asked has not been sent yet.
            raise UnsentError(f"no token for {self._username}: {error}") from None
        except AnsweredError as error:
            if error.code == _FAILED_PRECONDITION:
                # Authentication is off.
                return ""
            raise self._judge(server, error) from None

    def _judge(self, server: Server, error: AnsweredError) -> Exception:
        if not _is_refusal(error):
            return error
        who = f"user {self._username}" if self._username else "a caller without gate.username"
        return GateError(
            f"etcd on {server.url} refuses {who}: {error.message}; "
            "see gate.username, gate.password_file and the role's permissions",
            "GateRefused",
        )


def _is_about_token(error: AnsweredError) -> bool:
    return error.code == _UNAUTHENTICATED or any(words in error.message for words in _NO_TOKEN)


def _is_refusal(error: AnsweredError) -> bool:
    return (
        error.code == _PERMISSION_DENIED
        or _is_about_token(error)
        or "authentication failed" in error.message
    )
