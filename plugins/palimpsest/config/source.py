"""Where a corpus' pages come from: files here or elsewhere, or a crawl of Common Crawl; and how they are fetched."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from palimpsest.config.base import Commit, Strict
from palimpsest.config.table import Columns, Value

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(file: str) -> bool:
    """Whether a file is named by an address, not a path."""
    return bool(URL.match(file))


def _check_address(address: str, key: str) -> None:
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise ValueError(f"{key}: an address in a corpus file must hold no password; use the environment's credentials")
    if parts.path.endswith("/") or not parts.path.strip("/"):
        raise ValueError(f"{key}: '{address}' names no file")
    if parts.scheme.lower() in ("http", "https") and "*" in parts.path:
        raise ValueError(f"{key}: '{address}': a web server cannot say what a star matches; name each file")


def _server(value: str) -> str:
    if not URL.match(value):
        raise ValueError(f"'{value}' is no address; write it with its scheme, like https://host/ or s3://bucket/")
    return value.rstrip("/") + "/"


Server = Annotated[str, AfterValidator(_server)]
CrawlId = Annotated[str, Field(pattern=r"^CC-MAIN-\d{4}-\d{2,4}$")]
Domain = Annotated[str, Field(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")]


class Transfer(Strict):
    """How files are fetched from elsewhere; nothing here changes what is fetched."""

    connections: int = Field(default=4, ge=1, le=64)
    attempts: int = Field(default=8, ge=1)
    """Tries of one file in a row that brought next to nothing; then it is given up, and the run with it."""
    backoff_s: float = Field(default=1.0, gt=0)
    """Pause before the second try; doubled with each further one up to a minute. A server's Retry-After goes first."""
    stall_s: float = Field(default=60.0, gt=0)
    """A connection that brings less than 1 KiB/s over this time is cut; what it brought is kept."""
    max_file_bytes: int = Field(default=20_000_000_000, gt=0)
    """A larger file is an error: a server may send without end."""


class Segments(Strict):
    """A run of a crawl's files, in the order of its paths file."""

    first: int = Field(default=0, ge=0)
    count: int = Field(gt=0)


class Query(Strict):
    """Captures that a crawl's index has of some domains."""

    domains: list[Domain] = Field(min_length=1)
    """With their subdomains."""
    mime: str | None = "text/html"
    """The type that the index holds for the capture; null: all."""
    status: int | None = Field(default=200, ge=100, le=599)


class CommonCrawl(Strict):
    crawls: list[CrawlId] = Field(min_length=1)
    """Crawls of the same corpus, like CC-MAIN-2024-22. A crawl added later is fetched and extracted alone."""
    records: Literal["warc", "wet"] = "warc"
    """'warc': pages as captured. 'wet': the crawl's own plain text of them."""
    segments: Segments | None = None
    """Which of its files, of each crawl; or ``query``."""
    query: Query | None = None
    server: Server = "https://data.commoncrawl.org/"
    """Where the files lie: https://, or s3://commoncrawl/ (any address that fsspec opens)."""
    index: Server = "https://index.commoncrawl.org/"

    @model_validator(mode="after")
    def _one_choice(self) -> CommonCrawl:
        if (self.segments is None) == (self.query is None):
            raise ValueError("give one of 'segments' (files by number) and 'query' (captures by domain)")
        if self.query and self.records != "warc":
            raise ValueError("'query' finds captures, and the index knows those of WARC files only; set records: warc")
        return self


class Crawl(Strict):
    """Sites that are crawled when the corpus runs; every page is asked for only if it has changed."""

    sites: list[str] = Field(min_length=1)
    """Where to begin, like https://host/docs/. Only pages of the same scheme, host and port are asked for; robots.txt
    of each is obeyed, and a site that cannot say what it allows is left alone."""
    agent: str = Field(min_length=5, max_length=200)
    """Who asks, as servers see it: a name (the one robots.txt rules are looked up under) and where to complain, like
    'my-corpus/1.0 (+https://host/about; me@host)'."""
    max_pages: int = Field(default=1_000, gt=0)
    """Requests for pages of one site and crawl, unchanged ones among them."""
    max_bytes: int = Field(default=1_000_000_000, gt=0)
    """Of one site and crawl; a page that was begun is finished."""
    max_depth: int = Field(default=5, ge=0)
    """Links from a start or a page of the sitemap."""
    delay_s: float = Field(default=1.0, ge=0)
    """Pause between two requests to a site; a longer one in robots.txt (Crawl-delay, Request-rate) goes first, but
    a site that asks for more than a minute is left alone."""
    sitemaps: bool = True
    follow_links: bool = True
    private_networks: list[str] = []
    """Networks that may be connected to beside the public internet, like 10.0.0.0/8."""

    @model_validator(mode="after")
    def _askable(self) -> Crawl:
        for number, site in enumerate(self.sites):
            parts = urlsplit(site)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError(f"sites.{number}: '{site}' is no address of a site; write it like https://host/")
        if "@" not in self.agent and "://" not in self.agent:
            raise ValueError("agent: say where to complain, like 'my-corpus/1.0 (+https://host/about)'")
        if any(ord(character) < 32 or ord(character) > 126 for character in self.agent):
            raise ValueError("agent: only printable ASCII can be sent")
        for number, network in enumerate(self.private_networks):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"private_networks.{number}: {error}; write it like 10.0.0.0/8") from None
        return self


class HuggingFace(Strict):
    """Data files (Parquet or JSON lines) of a dataset on the hub, at one commit."""

    repo: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: Commit
    """The commit in full: a branch would be another dataset tomorrow."""
    files: list[str] = Field(min_length=1)
    """Paths in the dataset; a star also matches slashes: data/train-*.parquet."""
    stream: bool = False
    """Fetch each file when its rows are read, one at a time, and delete it after: there must be room for the largest,
    not for all of them. Whatever extracts days reads every file again."""


class Source(Strict):
    kind: Literal["warc", "table", "cpython", "commoncrawl", "huggingface", "crawl"] = "warc"
    """'warc': crawl records with HTML pages. 'table': JSON lines or Parquet, a row per text that is extracted already;
    the document rules and the gate are those of pages. 'cpython': the help topics and docstrings of the Python that
    runs this, a corpus that every machine has. 'commoncrawl': files or captures of Common Crawl. 'huggingface': tables
    of a dataset on the hub. 'crawl': pages of sites, fetched when the corpus runs."""
    files: list[str] = []
    """Paths (globs allowed) relative to the repository, absolute, or in the data folder ($PALIMPSEST_DATA/...); or
    addresses: https://, or any that fsspec opens (s3://bucket/*.warc.gz)."""
    damaged: Literal["error", "quarantine"] = "error"
    """What a damaged crawl file is. 'error': nothing is published until it has been fetched again. 'quarantine': what
    can be read becomes pages, and each stretch that cannot a row of the quarantine. Files that are fetched from an
    address are checked as they arrive, and are an error there either way."""
    columns: Columns | None = None
    """Where a table's fields stand; default: columns 'url' and 'text'."""
    where: dict[str, Value] = {}
    """Only rows of a table whose columns have these values."""
    commoncrawl: CommonCrawl | None = None
    huggingface: HuggingFace | None = None
    crawl: Crawl | None = None
    transfer: Transfer = Transfer()

    @model_validator(mode="after")
    def _complete(self) -> Source:
        if (self.kind in ("warc", "table")) != bool(self.files):
            needed = "takes no 'files'" if self.files else "needs the key 'files'"
            raise ValueError(f"source kind '{self.kind}' {needed}")
        for key in ("commoncrawl", "huggingface", "crawl"):
            if (self.kind == key) != bool(getattr(self, key)):
                needed = "takes no" if getattr(self, key) else "needs the"
                raise ValueError(f"source kind '{self.kind}' {needed} key '{key}'")
        if self.damaged != "error" and self.kind != "warc":
            raise ValueError(f"source kind '{self.kind}' takes no 'damaged'; it is for kind 'warc'")
        for key in ("columns", "where"):
            if self.kind not in ("table", "huggingface") and getattr(self, key):
                raise ValueError(f"source kind '{self.kind}' takes no '{key}'; it is for kinds 'table', 'huggingface'")
        for number, file in enumerate(self.files):
            if URL.match(file):
                _check_address(file, f"files.{number}")
        return self

    @property
    def is_remote(self) -> bool:
        """Whether it must be fetched before it can be read."""
        return self.kind in ("commoncrawl", "huggingface", "crawl") or any(is_url(file) for file in self.files)

    @property
    def streams(self) -> bool:
        """Whether its files are fetched when they are read, and not kept."""
        return self.huggingface is not None and self.huggingface.stream

    @property
    def is_table(self) -> bool:
        return self.kind in ("table", "cpython", "huggingface")

    @property
    def is_text(self) -> bool:
        """Whether it is known to hold texts that are extracted already, not pages."""
        return self.is_table or (self.commoncrawl is not None and self.commoncrawl.records == "wet")
