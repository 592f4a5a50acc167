"""Where a host name leads, and connections that go to the very address that was looked at."""

from __future__ import annotations

import ipaddress
import socket

import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # public where what it stands for is
_UNICAST = ipaddress.ip_network("2000::/3")  # all IPv6 addresses that are routed to everybody
_NEVER = tuple(map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "3ffe::/16", "3fff::/20")))
_STANDING_FOR_IPV4 = (  # their last 32 bits are an IPv4 address
    _NAT64,
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("::/96"),
    ipaddress.ip_network("::ffff:0:0:0/96"),
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # before an IPv4 address, in any network
_CLOUDS = tuple(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254")))  # AWS, Google


def port_of(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def resolve(url: httpx.URL) -> list[Address]:
    """All addresses of a URL's host, IPv4 first: containers often have no IPv6 route. Raises
    OSError when it has none."""
    found = socket.getaddrinfo(url.host, port_of(url), type=socket.SOCK_STREAM)
    names = sorted({str(entry[4][0]).partition("%")[0] for entry in found}, key=lambda n: ":" in n)
    return [ipaddress.ip_address(name) for name in names]


def is_public(address: Address) -> bool:
    """Of IPv6 addresses those of 2000::/3 and NAT64's, where no private IPv4 one is in them."""
    if address.is_multicast:
        return False
    inner = _inner(address)
    if isinstance(address, ipaddress.IPv4Address) or address in _NAT64:
        return address.is_global if inner is None else is_public(inner)
    routed = address in _UNICAST and not any(address in network for network in _NEVER)
    return routed and address.is_global and (inner is None or is_public(inner))


def is_link_local(address: Address) -> bool:
    """Such as 169.254.169.254, where clouds tell machines their passwords."""
    inner = _inner(address)
    local = address.is_link_local or address in _CLOUDS
    return local or (inner is not None and is_link_local(inner))


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    inner = address.ipv4_mapped or address.sixtofour
    isatap = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    if inner is None and (isatap or any(address in network for network in _STANDING_FOR_IPV4)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner


def pinned(request: httpx.Request, address: Address) -> httpx.Request:
    """The same request, to that address: the host's name is not looked up again. The certificate
    is checked against the name all the same."""
    name = request.url.host
    request.url = request.url.copy_with(host=str(address))
    request.extensions = {**request.extensions, "sni_hostname": name}
    return request


class NoLinkLocal(httpx.HTTPTransport):
    """For a host that an admin did not name: any address but a link-local one, and the one that
    was looked at."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            addresses = resolve(request.url)
        except OSError as error:
            raise httpx.ConnectError(f"it is not found: {error.strerror}") from error
        if any(is_link_local(address) for address in addresses):
            raise LinkLocalError(
                f"{request.url.host} is a link-local address; set LABEL_STUDIO_URL instead"
            )
        return super().handle_request(pinned(request, addresses[0]))


class LinkLocalError(httpx.TransportError):
    """Nothing was connected."""
