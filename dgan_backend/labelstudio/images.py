"""A task's picture as an array, the way the browser shows it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import numpy as np
import numpy.typing as npt

from dgan_backend.errors import PassingError, TaskError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.fetch import FetchError, Limits, UnreachableError, fetch
from dgan_backend.pictures import PictureError, decode_picture
from dgan_backend.records import task_number

_CLOUD = ("s3", "s3s", "gs", "azure-blob", "azure-spi")
_DEFAULTS = Limits()


def load_image(
    task: Mapping[str, Any],
    key: str,
    site: LabelStudioClient | None = None,
    allowed_hosts: tuple[str, ...] = (),
    limits: Limits = _DEFAULTS,
) -> npt.NDArray[np.uint8]:
    """The picture that a task's data has under `key`: [H, W, 3] uint8, RGB.

    site: the project's Label Studio; needed for uploads, local files and cloud storage
    Raises TaskError that names the task, the picture and what to do.
    """
    number, data = task_number(task.get("id")), task.get("data")
    url = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(url, str) or not url.strip():
        keys = ", ".join(data) if isinstance(data, Mapping) else ""
        raise TaskError(
            f"Task {number} has no picture: its data has no URL under {key!r} (keys: "
            f"{keys or 'none'}). Import it again with that key, or change the Image tag."
        )
    url = url.strip()
    try:
        return decode_picture(_bytes(url, number, site, allowed_hosts, limits), limits.max_pixels)
    except UnreachableError as error:
        raise PassingError(f"Task {number}: the picture {_shown(url)} {error}.") from error
    except (FetchError, PictureError) as error:
        raise TaskError(f"Task {number}: the picture {_shown(url)} {error}.") from error


def _bytes(
    url: str,
    task: object,
    site: LabelStudioClient | None,
    allowed_hosts: tuple[str, ...],
    limits: Limits,
) -> bytes:
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        return _from_data_uri(url, limits)
    if scheme in _CLOUD:
        code = base64.urlsafe_b64encode(url.encode()).decode()
        url = f"/tasks/{task}/resolve/?fileuri={code}"
    if url.startswith("/") and not url.startswith("//"):
        if site is None:
            raise FetchError(
                "lies in Label Studio, whose address is not known; set LABEL_STUDIO_URL and "
                "LABEL_STUDIO_API_KEY, or connect the project again"
            )
        url = site.link(url)
    return fetch(url, site, allowed_hosts, limits)


def _from_data_uri(url: str, limits: Limits) -> bytes:
    head, _, body = url.partition(",")
    if len(body) > limits.max_bytes * 4 // 3 + 4:
        raise FetchError(f"is over {limits.max_bytes // 2**20} MiB; import a smaller file")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise FetchError("is no valid base64; import it again") from error


def _shown(url: str) -> str:
    """A URL for people: without user, password and signed query."""
    if url.startswith("data:"):
        return f"{url[:30]}..."
    if not re.match(r"\w+://", url):
        return url[:200]
    try:
        parsed = httpx.URL(url)
        return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))[:200]
    except (httpx.InvalidURL, UnicodeError):
        return re.sub(r"//[^/]*@", "//", url.partition("?")[0])[:200]
