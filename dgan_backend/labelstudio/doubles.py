"""Backends that one connecting has made several times.

Where its SQLite was locked, Label Studio begins anew with a call, also after it has stored the
backend (its DatabaseIsLockedRetryMiddleware).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

# What a person may connect a second time with, at the same address and on purpose.
_SENT = ("url", "auth_method", "basic_auth_user", "extra_params", "is_interactive", "timeout")
_TRIED_FOR = timedelta(minutes=15)  # longer than Label Studio's 15 tries take


def doubles(
    backends: Sequence[Mapping[str, Any]], backend: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Those of a project's backends that the call that made `backend` has made, it among them, the
    first first."""
    found = [row for row in backends if row["id"] != backend["id"] and _alike(row, backend)]
    return sorted([*found, backend], key=lambda row: int(row["id"]))


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if any(one.get(key) != other.get(key) for key in _SENT):
        return False
    made, again = (datetime.fromisoformat(str(row["created_at"])) for row in (one, other))
    return abs(made - again) < _TRIED_FOR
