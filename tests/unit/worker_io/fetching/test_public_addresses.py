from ipaddress import ip_address

import pytest

from worker_io.fetching.public_addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.216.34",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "2606:4700::1111",
        "2a00:1450:4001:80b::200e",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2002:101:101::",
    ],
)
def test_addresses_of_the_internet_may_be_called(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        # this machine and this network
        *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "::", "::1"),  # noqa: S104
        # networks that are private or shared, and links
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
        *("169.254.1.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12::1"),
        # the metadata of AWS, GCP, Azure, Alibaba and Oracle
        *("169.254.169.254", "fd00:ec2::254", "fd20:ce::254"),
        *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
        # multicast, broadcast, reserved, documentation, benchmarks, former 6to4
        *("224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1"),
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
        *("198.18.0.1", "192.88.99.1", "4000::1", "100::1", "5f00::1"),
        # private ones in the shape of others: mapped, compatible, NAT64, 6to4, Teredo
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::101:101"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:a00:1::1"),
    ],
)
def test_no_other_address_may_be_called(address: str) -> None:
    assert not is_public(ip_address(address))
