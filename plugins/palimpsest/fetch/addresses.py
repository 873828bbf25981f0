"""Which address of a host to connect to: a public one, or one of a network that the corpus file allows."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from palimpsest.lake import LakeError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")
UNICAST = ipaddress.ip_network("2000::/3")
"""The only part of IPv6 that is given out to the internet at large (IANA, IPv6 Address Space)."""
SPECIAL = [ipaddress.ip_network(network) for network in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")]
"""Of IANA's special-purpose registries, what not every version of `ipaddress` knows."""
MOST_TRIED = 4
"""Addresses of a host that are connected to until one answers."""


class PrivateAddress(LakeError):
    """A ``host`` that resolves to no address that may be connected to."""

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message)
        self.host = host


def chooser(allowed: Sequence[str]) -> Callable[[str, int], list[str]]:
    """``choose(host, port)``: numeric addresses of the host that may be connected to, in the order to try them.

    The connection is made to what was checked, so a name that resolves otherwise a moment later changes nothing. Raises
    `PrivateAddress`, and `ConnectionError` for a host without an address.
    """
    networks = [ipaddress.ip_network(network) for network in allowed]

    def choose(host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionError(f"{host}: no address: {error}") from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(entry[4][0].split("%")[0]) for entry in found))
        usable = [a for a in addresses if is_public(a) or any(a in network for network in networks)]
        if usable:
            return [str(address) for address in usable[:MOST_TRIED]]
        shown = ", ".join(map(str, addresses))
        raise PrivateAddress(
            host,
            f"{host} is {shown}, not a public address; if it is meant, name its network under "
            "source.crawl.private_networks",
        )

    return choose


def is_public(address: Address) -> bool:
    """Whether it is one of the internet at large, also if it is written as an IPv6 address that carries another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour or address.teredo:
            return False
        inner = address.ipv4_mapped
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in SPECIAL)
