"""Which address of a host to connect to: a public one, or one of a network that the corpus file allows."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from palimpsest.lake import LakeError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddress(LakeError):
    """A ``host`` that resolves to no address that may be connected to."""

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message)
        self.host = host


def chooser(allowed: Sequence[str]) -> Callable[[str, int], str]:
    """``choose(host, port)``: a numeric address of the host that may be connected to.

    The connection is made to what was checked, so a name that resolves otherwise a moment later changes nothing. Raises
    `PrivateAddress`, and `ConnectionError` for a host without an address.
    """
    networks = [ipaddress.ip_network(network) for network in allowed]

    def choose(host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConnectionError(f"{host}: no address: {error}") from None
        addresses = [ipaddress.ip_address(entry[4][0].split("%")[0]) for entry in found]
        for address in addresses:
            if is_public(address) or any(
                address in network for network in networks if network.version == address.version
            ):
                return str(address)
        shown = ", ".join(map(str, dict.fromkeys(addresses)))
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
    return address.is_global and not address.is_multicast
