"""Which addresses are public, whatever form they come in, and what an operator trusts beside them."""

import ipaddress

import pytest

from server.media.addresses import TrustedHosts, is_public

PUBLIC = ("1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")
NOT_PUBLIC = (
    # this host, private, shared, link-local (metadata of most clouds)
    "0.0.0.0", "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.169.254",
    # metadata and platform services elsewhere
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
    # multicast, broadcast, reserved, documentation, benchmarks
    "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.7",
    # IPv6: unspecified, loopback, link-local, site-local, unique local, multicast, documentation, discard
    "::", "::1", "fe80::1", "fec0::1", "fc00::1", "ff02::1", "2001:db8::1", "3fff::1", "100::1",
    # an IPv4 address inside: mapped, compatible, NAT64 (both prefixes), 6to4, Teredo
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1",
)  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text):
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_not_public(text):
    assert not is_public(ipaddress.ip_address(text))


def test_networks_are_trusted_for_every_name_and_only_within_their_bounds():
    trusted = TrustedHosts.of(["10.1.0.0/16", "fd00:1::/32"])
    assert trusted.allow("store.internal", ipaddress.ip_address("10.1.2.3"))
    assert trusted.allow("store.internal", ipaddress.ip_address("::ffff:10.1.2.3"))
    assert trusted.allow("fd00:1::5", ipaddress.ip_address("fd00:1::5"))
    assert not trusted.allow("store.internal", ipaddress.ip_address("10.2.0.1"))


def test_a_trusted_name_may_stand_for_any_address_and_another_name_may_not():
    trusted = TrustedHosts.of(["Store.Internal."])
    assert trusted.allow("store.internal", ipaddress.ip_address("10.2.0.1"))
    assert not trusted.allow("other.internal", ipaddress.ip_address("10.2.0.1"))


@pytest.mark.parametrize(
    "entry", ["10.1.0.1/16", "10.1.0.0/40", "300.1.1.1", "http://store", "bücher", "*.internal", ""]
)
def test_other_entries_are_refused(entry):
    with pytest.raises(ValueError, match=r".+"):
        TrustedHosts.of([entry])
