"""Label Studio's two kinds of API tokens, made into an Authorization header.

A legacy token is sent as it is. A personal access token (PAT) is a refresh token: it is exchanged
for an access token that lives five minutes, and sending it directly is a 401.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

_MARGIN = 30.0  # seconds before its end that an access token is renewed


class Token:
    """One token. Safe to use from many threads; never part of a message or a repr.

    exchange: PAT -> access token, asks Label Studio
    """

    def __init__(self, text: str, exchange: Callable[[str], str]) -> None:
        self._text = text.strip()
        self._exchange = exchange
        self._access = ""
        self._expires = 0.0
        self._lock = threading.Lock()
        claims = _claims(self._text)
        self._is_jwt = claims is not None
        # An access token given directly works until it expires.
        self.renewable = claims is not None and claims.get("token_type") != "access"

    def header(self, renew: bool = False) -> dict[str, str]:
        """{"Authorization": ...}; `renew` forgets the access token, after a 401 say."""
        if not self._text:
            return {}
        if not self._is_jwt:
            return {"Authorization": f"Token {self._text}"}
        if not self.renewable:
            return {"Authorization": f"Bearer {self._text}"}
        with self._lock:
            if renew or time.time() > self._expires - _MARGIN:
                self._access = self._exchange(self._text)
                claims = _claims(self._access) or {}
                self._expires = float(claims.get("exp", time.time() + 300))
            return {"Authorization": f"Bearer {self._access}"}


def _claims(text: str) -> dict[str, Any] | None:
    """What a JWT says (unverified), or None when the text is no JWT."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None
