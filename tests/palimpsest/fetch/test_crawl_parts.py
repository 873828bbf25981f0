"""What a crawl is made of: the addresses that may be asked, what a page or sitemap names, the corpus file."""

from __future__ import annotations

import ipaddress

import pytest

from palimpsest.config import ConfigError, load_corpus
from palimpsest.fetch.addresses import PrivateAddress, chooser, is_public
from palimpsest.fetch.links import canonical, read_page, read_sitemap
from palimpsest.lake import REPOSITORY
from tests.palimpsest.fetch.conftest import html


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("192.168.0.1", False), ("172.16.9.9", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("fe80::1", False),
        ("fc00::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("2002:a00:1::", False),
        ("::", False), ("ff02::1", False), ("::127.0.0.1", False), ("::10.0.0.1", False), ("fec0::1", False),
        ("64:ff9b:1::a00:1", False), ("64:ff9b::5db8:d822", True), ("::ffff:0:10.0.0.1", False), ("5f00::1", False),
        ("3fff::1", False), ("2001:20::1", False), ("2001:4860:4860::8888", True), ("192.0.0.8", False),
        ("192.88.99.1", False), ("::ffff:192.0.0.8", False),
    ],
)  # fmt: skip
def test_what_counts_as_public(address, public):
    assert is_public(ipaddress.ip_address(address)) == public


def test_a_network_that_is_allowed_is_no_other():
    assert chooser(["127.0.0.0/8", "fd00::/8"])("127.0.0.1", 80) == ["127.0.0.1"]
    with pytest.raises(PrivateAddress, match=r"169\.254\.169\.254.*private_networks"):
        chooser(["127.0.0.0/8"])("169.254.169.254", 80)


def test_links_of_a_page():
    page = html(
        "x", "/b", "c?d=1", "/b", "http://[bad", "javascript:x()", head='<base href="https://Host.example:443/dir/">'
    )
    found = read_page(page + b'<a rel="nofollow" href="/n">n</a>', "utf-8", "http://other.example/")
    assert found["links"] == ["https://host.example/b", "https://host.example/dir/c?d=1"]
    assert canonical("http://HOST:80/a b#c") == "http://host/a%20b"
    assert canonical("http://me:pw@host/") is canonical("ftp://host/") is canonical("http://host:x/") is None


def test_sitemaps_and_what_is_none():
    namespace = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    index = f"<sitemapindex {namespace}><sitemap><loc> https://a.example/2.xml </loc></sitemap></sitemapindex>"
    assert read_sitemap(index.encode()) == ([], ["https://a.example/2.xml"])
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><urlset>&a;</urlset>'
    for body in (bomb, b"<html></html>"):
        with pytest.raises(ValueError, match="entities|root is <html>"):
            read_sitemap(body)


def test_the_example_is_a_valid_corpus():
    assert load_corpus(REPOSITORY / "docs" / "examples" / "crawl.yaml").source.is_remote


@pytest.mark.parametrize(
    ("crawl", "message"),
    [
        ("{sites: [https://a.example/], agent: my-corpus}", "say where to complain"),
        ("{sites: [a.example], agent: 'm (+a@b)'}", r"sites\.0: 'a.example' is no address of a site"),
        (
            "{sites: [https://a.example/], agent: 'm (+a@b)', private_networks: [10.0.0.1/8]}",
            r"private_networks\.0: .*host",
        ),
        ("{sites: [], agent: 'm (+a@b)'}", "sites"),
    ],
)
def test_a_file_that_cannot_be_followed_is_explained(tmp_path, crawl, message):
    file = tmp_path / "bad.yaml"
    source = f"source:\n  kind: crawl\n  crawl: {crawl}\n"
    file.write_text(f"name: bad\ndescription: x\n{source}start: 2024-01-01\nend: 2024-01-02\n")
    with pytest.raises(ConfigError, match=message):
        load_corpus(file)
