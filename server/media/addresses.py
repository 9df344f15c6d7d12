"""Which addresses media may be fetched from: those of the public internet, and those that the operator trusts."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Networks that `is_global` of some Python version lets pass, although nothing public is behind them.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's platform services, the same address in every virtual network
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service among them
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments; Teredo, which carries an IPv4 address, among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
# All of IPv6 that is routed publicly; whatever else is_global says, the rest is local, reserved or multicast.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Networks without IPv4 reach it through this prefix, so a resolver may answer with it (RFC 6052).
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet.

    IPv6 addresses that stand for an IPv4 one (mapped, NAT64) are judged by that one.
    """
    if address.version == 6:
        inner = _inner_ipv4(address)
        if inner is not None:
            return is_public(inner)
        if address not in GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and not _within(address, NOT_PUBLIC)


def _inner_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@dataclass(frozen=True, slots=True)
class TrustedHosts:
    """What may be fetched from although it is not public.

    Attributes:
        networks: whose addresses are reached as such and through any name.
        names: host names, lower case, that may stand for any address.
    """

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "TrustedHosts":
        """Read networks, addresses and host names.

        Raises:
            ValueError: an entry is none of these.
        """
        networks, names = [], set()
        for entry in entries:
            if entry[:1].isdigit() or ":" in entry or "/" in entry:
                networks.append(ipaddress.ip_network(entry))
            elif entry.replace("-", "").replace(".", "").replace("_", "").isalnum() and entry.isascii():
                names.add(entry.lower().removesuffix("."))
            else:
                raise ValueError(f"{entry!r} is none of these")
        return cls(tuple(networks), frozenset(names))

    def allow(self, host: str, address: Address) -> bool:
        """Whether `address`, which `host` stands for, is trusted."""
        mapped = address.ipv4_mapped if address.version == 6 else None
        return host in self.names or _within(mapped or address, self.networks)
