"""Fetch bytes from a URL that somebody wrote into a task, without becoming their errand boy.

A task's URL is whatever an annotator imported. Fetched from inside the network it could reach
the cloud's metadata address or an admin page, so: only http and https; only Label Studio, the
storage that it hands a picture on to, and hosts of ALLOWED_IMAGE_HOSTS, the latter at private
addresses only where they are named in full; no link-local address; the connection goes to the very
address that was checked (no second look-up); each redirect is checked anew; the token goes only to
where Label Studio keeps pictures; one deadline holds for all of it; and nothing that is packed is
unpacked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import httpx

from dgan_backend.labelstudio.addresses import (
    Address,
    LinkLocalError,
    is_link_local,
    is_public,
    pinned,
    port_of,
    resolve,
)
from dgan_backend.labelstudio.bounds import PLAIN, Packed, TooLarge, patient, read, within
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError, refused_token, say

_MAX_REDIRECTS = 5


class FetchError(Exception):
    """The bytes cannot be had; the message says why and what to do, without the URL."""


class UnreachableError(FetchError):
    """They cannot be had now: no connection, no permission, too slow, or a failing server."""


@dataclass(frozen=True)
class Limits:
    """max_bytes of a file as stored, max_pixels of a picture, seconds for the whole fetch."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    seconds: float = 30.0


def fetch(
    url: str, site: LabelStudioClient | None, allowed_hosts: tuple[str, ...], limits: Limits
) -> bytes:
    """The bytes at an http(s) URL; raises FetchError."""
    began = time.monotonic()
    try:
        with within(limits.seconds):
            return _follow(url, site, allowed_hosts, limits)
    except TooLarge as error:
        raise FetchError(
            f"is over {limits.max_bytes // 2**20} MiB; import a smaller file"
        ) from error
    except Packed as error:
        raise FetchError(
            f"cannot be fetched ({error}); store it without Content-Encoding"
        ) from error
    except LabelStudioError as error:
        raise UnreachableError(f"cannot be fetched: {str(error).rstrip('.')}") from error
    except LinkLocalError as error:
        raise FetchError(f"cannot be fetched: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        if time.monotonic() - began >= limits.seconds:
            raise UnreachableError(
                f"took over {limits.seconds:g} s to arrive; try again later"
            ) from error
        raise UnreachableError(f"cannot be fetched ({say(error)}); check the URL") from error


def _follow(
    url: str, site: LabelStudioClient | None, allowed_hosts: tuple[str, ...], limits: Limits
) -> bytes:
    hosts = allowed_hosts
    for _ in range(_MAX_REDIRECTS + 1):
        with _open(url, site, hosts) as response:
            target = _redirect(response, url, site)
            if target is None:
                return read(response, limits.max_bytes)
            hosts = (*allowed_hosts, *_storage(site, url, target))
            url = target
    raise FetchError(f"was redirected more than {_MAX_REDIRECTS} times; give its final URL")


@contextmanager
def _open(
    url: str, site: LabelStudioClient | None, allowed_hosts: tuple[str, ...]
) -> Iterator[httpx.Response]:
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise FetchError("is no http or https URL; import the picture or give such a URL")
    if site is not None and site.keeps(url):
        with site.stream(url) as response:
            yield response
        return
    address = _checked_address(parsed, allowed_hosts)
    request = pinned(_client().build_request("GET", parsed), address)
    response = _client().send(request, stream=True)
    try:
        yield response
    finally:
        response.close()


@lru_cache(maxsize=1)
def _client() -> httpx.Client:
    # No kept connections: one that was opened (and certified) for a host must not be used for
    # another host at the same address. No proxy from the environment: it would look up again.
    return patient(
        httpx.Client(
            timeout=httpx.Timeout(15.0, connect=5.0),
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
            headers={"User-Agent": "dgan-backend", **PLAIN},
        )
    )


def _redirect(response: httpx.Response, url: str, site: LabelStudioClient | None) -> str | None:
    """Where a redirect leads, or None when this is the answer; raises FetchError on errors."""
    login = response.status_code == 401
    if response.has_redirect_location:
        target = httpx.URL(url).join(response.headers["location"])
        login = target.path.rstrip("/").endswith("/user/login")
        if not login:
            return str(target)
    if login and site is not None and site.keeps(url):
        raise UnreachableError(f"cannot be fetched: {refused_token(site.url)}")
    if response.status_code in (404, 410):
        raise FetchError("does not exist (any more); import it again or correct the URL")
    if not response.is_success:
        raise UnreachableError(
            f"cannot be fetched (its server answered {response.status_code}); check that the "
            "backend may read it"
        )
    kind = response.headers.get("content-type", "")
    if site is not None and site.keeps(url) and kind.startswith("text/html"):
        raise UnreachableError("cannot be fetched: its server answered with a page, no picture")
    return None


def _storage(site: LabelStudioClient | None, url: str, target: str) -> tuple[str, ...]:
    """What the redirect of one URL allows beside what an admin does: a project's storage, at any
    address where an admin named Label Studio, else at a public one."""
    if site is None or not site.hands_on(url):
        return ()
    return (httpx.URL(target).host.lower(),) if site.trusted else ("*",)


def _checked_address(url: httpx.URL, allowed_hosts: tuple[str, ...]) -> Address:
    """One address of the host, after its name and all of them were checked. Raises FetchError
    before anything is connected, and before a name that is not allowed is looked up."""
    host = url.host.lower()
    named = not {host, f"{host}:{port_of(url)}"}.isdisjoint(allowed_hosts)
    if not named and not any(fnmatchcase(host, name) for name in allowed_hosts if "*" in name):
        raise FetchError(
            f"is not kept by Label Studio but at {host}; if pictures may come from there, add "
            f"{host} to ALLOWED_IMAGE_HOSTS"
        )
    addresses = _resolve(url)
    if local := [address for address in addresses if is_link_local(address)]:
        raise FetchError(f"is at {host}, a link-local address ({local[0]}), which is never asked")
    private = [address for address in addresses if not is_public(address)]
    if private and not named:
        raise FetchError(
            f"is at {host}, a private address ({private[0]}); if that is intended, name {host} "
            "in full in ALLOWED_IMAGE_HOSTS"
        )
    return addresses[0]


def _resolve(url: httpx.URL) -> list[Address]:
    try:
        return resolve(url)
    except OSError as error:
        raise UnreachableError(
            f"is at {url.host}, which is not found ({error.strerror})"
        ) from error
