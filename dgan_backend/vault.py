"""Secrets of one installation: what its processes share and nobody else may read.

They lie in MODEL_DIR, which web processes and workers share anyway, in files that only their
user can read; in a bucket they are as private as the bucket. They are never on Redis, in a job's
arguments, in a log or in an answer. Two kinds: a random key, made once, from which each project's
webhook secret is derived; and the tokens that Label Studio sends to /setup.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.logs import hide
from dgan_backend.storage import Storage

FOLDER = "secrets"  # in MODEL_DIR
HEADER = "X-Dgan-Secret"  # of a webhook; Label Studio takes letters, digits, `-` and `_`
_KEY = "webhook.key"
_KEY_BYTES = 32
_FRESH_SECONDS = 10.0  # before a file is read again


class Vault:
    """Safe to use from many threads. Raises DganError that names the place when it cannot be
    read or written."""

    def __init__(self, models: Storage) -> None:
        self._place = models / FOLDER
        self._lock = threading.Lock()
        self._read: dict[str, tuple[float, bytes | None]] = {}

    # The secret of a webhook

    def webhook_secret(self, uid: str) -> str:
        """What the webhook of a project has to carry; the first call makes the key."""
        return _derived(self._found_key() or self._new_key(), uid)

    def known_webhook_secret(self, uid: str, anew: bool = False) -> str:
        """The same, but "" where no key was made yet. anew: look whether the key was changed."""
        key = self._found_key(anew)
        return "" if key is None else _derived(key, uid)

    def _found_key(self, anew: bool = False) -> bytes | None:
        found = self._find(_KEY, 0.0 if anew else float("inf"))
        if found is not None and len(found) < _KEY_BYTES:
            raise DganError(f"{self._place}/{_KEY} is cut short; delete it, and a new one is made.")
        return found

    def _new_key(self) -> bytes:
        """Of many processes that make one at the same time, all get the same."""
        key = secrets.token_hex(_KEY_BYTES).encode()
        self._write(_KEY, key, if_absent=True)
        return self._find(_KEY, 0.0) or key

    # Tokens of Label Studio

    def keep_token(self, uid: str, hostname: str, token: str) -> None:
        """The token that came with a project's /setup. Nothing is written where it is known."""
        hide(token)
        if self.token(uid, hostname) != token:
            told = {"hostname": hostname, "token": token}
            self._write(_token_name(uid), json.dumps(told).encode())

    def token(self, uid: str, hostname: str) -> str:
        """The one that came together with this address; "" for any other, so that whoever names
        another address gets no token sent there."""
        found = self._find(_token_name(uid), _FRESH_SECONDS)
        try:
            told = json.loads(found) if found else {}
            token = str(told["token"]) if told.get("hostname") == hostname else ""
        except (ValueError, KeyError, AttributeError):
            return ""  # broken; the next /setup brings it again
        hide(token)
        return token

    def forget(self, uid: str) -> None:
        name = _token_name(uid)
        with self._lock:
            self._read.pop(name, None)
        self._place.delete(name)

    # Files

    def _find(self, name: str, seconds: float) -> bytes | None:
        """What a file holds, as it was `seconds` ago or later; None is not remembered."""
        with self._lock:
            read, found = self._read.get(name, (0.0, None))
            if found is not None and time.monotonic() - read < seconds:
                return found
        found = self._place.find(name)
        with self._lock:
            self._read[name] = (time.monotonic(), found)
        return found

    def _write(self, name: str, data: bytes, if_absent: bool = False) -> None:
        with self._lock:
            self._read.pop(name, None)
        if not self._place.local:
            if not (if_absent and self._place.has(name)):
                self._place.write(name, data)
            return
        try:
            _write_private(Path(self._place.url) / name, data, if_absent)
        except OSError as error:
            raise DganError(
                f"{self._place}/{name} cannot be written ({error.strerror}); MODEL_DIR must be "
                "writable."
            ) from error


def fingerprint(secret: str) -> str:
    """Tells secrets apart and gives none away: they are random."""
    return hashlib.sha256(b"fingerprint " + secret.encode()).hexdigest()[:16] if secret else ""


def same(given: str, secret: str) -> bool:
    """Whether they are the same, in a time that does not say how much of them is."""
    return bool(secret) and hmac.compare_digest(given.encode(), secret.encode())


def _derived(key: bytes, uid: str) -> str:
    return hmac.new(key, b"webhook " + uid.encode(), hashlib.sha256).hexdigest()


def _token_name(uid: str) -> str:
    """Of a project, whose uid is whatever was sent: never a path."""
    return f"token-{hashlib.sha256(uid.encode()).hexdigest()[:32]}.json"


def _write_private(path: Path, data: bytes, if_absent: bool) -> None:
    """Whole or not at all, and at no moment readable by others."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{secrets.token_hex(6)}")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        if if_absent:
            with suppress(FileExistsError):
                os.link(unfinished, path)
        else:
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
