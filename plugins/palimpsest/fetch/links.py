"""Addresses of a site: in one spelling, out of pages and out of sitemaps."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit
from xml.etree import ElementTree

from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree

from palimpsest.fetch.connection import SAFE

LONGEST = 2_000
"""Characters of an address; longer ones are a site's mistake or a trap."""
MOST_LINKS = 5_000
LARGEST_SITEMAP = 50 << 20
"""Bytes, uncompressed (sitemaps.org)."""
PORTS = {"http": 80, "https": 443}


def canonical(url: str) -> str | None:
    """The address without fragment, its host in lower case, no default port; None for what cannot be asked for."""
    try:
        parts = urlsplit(quote(url.strip(), safe=SAFE))
        port = parts.port
        host = (
            (parts.hostname or "").encode("idna").decode()
            if ":" not in (parts.hostname or "")
            else f"[{parts.hostname}]"
        )
    except (ValueError, UnicodeError):
        return None
    scheme = parts.scheme.lower()
    if scheme not in PORTS or not host or parts.username or parts.password or len(url) > LONGEST:
        return None
    place = host if port in (None, PORTS[scheme]) else f"{host}:{port}"
    return urlunsplit((scheme, place, parts.path or "/", parts.query, ""))


def site_of(url: str) -> str:
    """Scheme, host and port of a canonical address: what one robots.txt speaks for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def read_page(payload: bytes, charset: str, url: str) -> dict[str, Any]:
    """``links``, canonical and each once in the order of the page, and ``robots``, the words of its robots meta tags.

    A page that asks for it (nofollow) has no links; nor has a link that does. Runs in the worker.
    """
    tree = HTMLTree.parse_from_bytes(payload, charset or detect_encoding(payload))
    robots = {
        word.strip().lower()
        for meta in tree.document.query_selector_all("meta[name]")
        if (meta.getattr("name") or "").lower() == "robots"
        for word in (meta.getattr("content") or "").split(",")
    }
    base = url
    for element in tree.document.query_selector_all("base[href]"):
        base = urljoin(url, element.getattr("href") or "")
        break
    anchors = [
        a.getattr("href") or ""
        for a in tree.document.query_selector_all("a[href]")
        if "nofollow" not in (a.getattr("rel") or "").lower().split()
    ]
    followed = [] if robots & {"nofollow", "none"} else anchors
    return {"links": unique(joined(base, link) for link in followed), "robots": sorted(robots)}


def unique(found: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(url for url in found if url))[:MOST_LINKS]


def read_sitemap(body: bytes) -> tuple[list[str], list[str]]:
    """Addresses of pages and of further sitemaps. Raises `ValueError` for what is no sitemap, or a bomb."""
    if body.startswith(b"\x1f\x8b"):
        member = zlib.decompressobj(wbits=31)
        body = member.decompress(body, LARGEST_SITEMAP)
        if member.unconsumed_tail:
            raise ValueError(f"more than {LARGEST_SITEMAP} bytes uncompressed")
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise ValueError("it declares entities")
    root = ElementTree.fromstring(body)
    found: dict[str, list[str]] = {"urlset": [], "sitemapindex": []}
    kind = root.tag.rsplit("}", 1)[-1]
    if kind not in found:
        raise ValueError(f"its root is <{kind}>")
    for entry in root:
        for child in entry:
            if child.tag.rsplit("}", 1)[-1] == "loc" and child.text and (url := canonical(child.text)):
                found[kind].append(url)
    return found["urlset"], found["sitemapindex"]


def joined(base: str, link: str) -> str | None:
    """The canonical address of a link on a page."""
    try:
        return canonical(urljoin(base, link.strip()))
    except ValueError:
        return None
