"""Archives and tables on a web server, in a bucket and on the Hugging Face hub, and the mapping of their columns."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import shutil
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import ConfigError, Corpus, load_corpus
from palimpsest.fetch.connection import origin
from palimpsest.fetch.hub import tokens
from palimpsest.fetch.stage import fetch_corpus
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import REPOSITORY, Lake, LakeError, NotPublished
from tests.palimpsest.fetch.conftest import Fault, Site

DAY = dt.date(2026, 10, 1)
REPO, COMMIT = "org/texts", "0123456789abcdef0123456789abcdef01234567"
TEXT = "The harbour wall was finished in the spring of that year, and the boats came in one by one. Number {}."
ROWS = [{"id": n, "body": TEXT.format(n), "lang": "en" if n % 3 else "de"} for n in range(9)]
MORE = [{"id": n, "body": TEXT.format(n)} for n in (9, 10)]


def lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[dict]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue().to_pybytes()


@pytest.fixture
def corpus(tmp_path):
    def make(**source) -> Corpus:
        source.setdefault("transfer", {"connections": 2, "attempts": 3, "backoff_s": 0.01, "stall_s": 2})
        source.setdefault("columns", {"url": "https://texts.example/{id}", "text": "body"})
        days = {"start": DAY, "end": DAY, "path": tmp_path / "texts.yaml"}
        return Corpus(name="texts", description="Made for a test.", source=source, **days)

    return make


def pages(corpus, lake) -> list[dict]:
    fetch_corpus(corpus, lake)
    (day,) = extract_days(corpus, [corpus.start], lake)
    return pq.read_table(day.file("pages.parquet")).to_pylist()


def test_tables_of_a_web_server_and_of_the_disk_are_one_corpus(site, corpus, lake, tmp_path):
    site.files["rows.jsonl.gz"] = gzip.compress(lines(ROWS[:3]))
    site.files["rows.parquet"] = parquet(ROWS[3:6])
    (tmp_path / "rows.jsonl").write_bytes(lines(ROWS[6:]))
    site.faults["rows.parquet"] = [Fault(cut=500), Fault(truncate=900)]
    files = [site.url + "rows.jsonl.gz", site.url + "rows.parquet?download=1", str(tmp_path / "rows.jsonl")]
    found = pages(corpus(kind="table", files=files), lake)
    assert sorted(row["url"] for row in found) == [f"https://texts.example/{n}" for n in range(9)]
    asked = len(site.asked)
    assert pages(corpus(kind="table", files=files), lake) == found
    chosen = pages(corpus(kind="table", files=files, where={"lang": "de"}), lake)  # fetched already
    assert sorted(row["url"][-1] for row in chosen) == ["0", "3", "6"]
    assert len(site.asked) == asked


def test_an_interrupt_ends_what_is_under_way_and_keeps_its_part(site, corpus, lake):
    site.files["small.jsonl"], site.files["large.jsonl"] = lines(ROWS), lines(ROWS * 3_000)
    site.faults["large.jsonl"] = [Fault(drip="body", piece=10_000, pause_s=0.1)]
    whole = len(site.files["large.jsonl"])
    both = corpus(kind="table", files=[site.url + "large.jsonl", site.url + "small.jsonl"])

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch_corpus(both, lake, interrupted)
    assert time.monotonic() - began < 0.5 * whole / 10_000 * 0.1
    fetch_corpus(both, lake)
    assert site.ranges("large.jsonl")[1].startswith("bytes=")


def test_archives_of_a_bucket_are_found_by_a_star(genuine, corpus, lake, s3, monkeypatch):
    for name, value in {"AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    bucket = f"files{abs(hash(lake.root))}"
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.mkdir(bucket)
    for name in ("commoncrawl_whirlwind.warc.gz", "warcio_example.arc.gz", "expected.json"):
        fs.pipe_file(f"{bucket}/crawl/{name}", (genuine / name).read_bytes())
    wanted = corpus(kind="warc", files=[f"s3://{bucket}/crawl/*.gz"], columns=None)
    receipt = fetch_corpus(wanted, lake)
    captures = [lake.open(parent["uri"]) for parent in receipt.manifest["parents"]]
    assert sorted(day for capture in captures for day in capture.extra["days"]) == ["2014-02-16", "2024-05-18"]
    dated = wanted.model_copy(update={"start": dt.date(2014, 2, 16), "end": dt.date(2024, 12, 31)})
    days = extract_days(dated, [dt.date(2014, 2, 16), dt.date(2024, 5, 18)], lake)
    assert [day.manifest["rows"]["kept"] for day in days] == [1, 1]
    with pytest.raises(LakeError, match=r"source\.files\[0\]: nothing matches 's3://.*/none\*'"):
        fetch_corpus(corpus(kind="warc", files=[f"s3://{bucket}/none*"], columns=None), lake)


@pytest.fixture
def hub(site, monkeypatch):
    """The hub's interface for one dataset, its files on another server as the hub's are."""
    store = Site()
    files = {
        "data/train-0.parquet": parquet(ROWS[:4]),
        "data/train-1.parquet": parquet(ROWS[4:]),
        "extra.jsonl": lines(MORE),
        "README.md": b"# Texts\n",
    }
    tree = f"api/datasets/{REPO}/tree/{COMMIT}"
    listed = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "data"}]
    for path, content in files.items():
        entry = {"type": "file", "path": path, "size": len(content)}
        blob = b"blob %d\0" % len(content) + content
        entry |= {"oid": hashlib.sha1(blob).hexdigest()}
        if path.endswith(".parquet"):
            entry |= {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}}
            store.files[path] = content
            site.files[f"datasets/{REPO}/resolve/{COMMIT}/{path}"] = b""
            site.faults[f"datasets/{REPO}/resolve/{COMMIT}/{path}"] = [
                Fault(status=302, headers=(("Location", store.url + path),))
            ] * 9
        else:
            site.files[f"datasets/{REPO}/resolve/{COMMIT}/{path}"] = content
        listed.append(entry)
    site.pages[tree] = lambda query: (200, json.dumps(listed[3:] if "cursor" in query else listed[:3]).encode())
    site.faults[tree] = [Fault(headers=(("Link", f'<{site.url}{tree}?recursive=true&cursor=x>; rel="next"'),))]
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield store
    store.close()


def test_files_of_a_dataset_on_the_hub_become_pages(site, hub, corpus, lake):
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["data/train-*.parquet", "extra.jsonl"]}
    changed = Fault(change=lambda body: body.replace(b"spring", b"autumn"))
    hub.faults["data/train-0.parquet"] = [Fault(cut=700), changed]
    found = pages(corpus(kind="huggingface", huggingface=wanted), lake)
    assert len(found) == 11
    assert {row["warc_file"] for row in found} == {
        f"hf://datasets/{REPO}@{COMMIT}/{name}"
        for name in ("data/train-0.parquet", "data/train-1.parquet", "extra.jsonl")
    }
    assert {asked.get("Authorization") for asked in site.headers} == {"Bearer hf_secret"}
    assert {asked.get("Authorization") for asked in hub.headers} == {None}


def test_a_dataset_that_is_streamed_gives_the_same_pages_and_leaves_no_file(site, hub, corpus, lake, tmp_path, state):
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["data/train-*.parquet", "extra.jsonl"]}
    tree = f"api/datasets/{REPO}/tree/{COMMIT}"
    paging = list(site.faults[tree])
    whole = pages(corpus(kind="huggingface", huggingface=wanted), Lake(tmp_path / "whole"))
    site.faults[tree] = paging
    site.asked.clear()
    hub.asked.clear()
    streamed = corpus(kind="huggingface", huggingface=wanted | {"stream": True})
    with pytest.raises(NotPublished, match="list them first: python -m palimpsest fetch texts"):
        extract_days(streamed, [DAY], lake)
    receipt = fetch_corpus(streamed, lake)
    assert receipt.extra == {"files": 3, "bytes": sum(entry["size"] for entry in listed(receipt))}
    assert hub.asked == [] and {path for path, _ in site.asked} == {tree}
    beside = []

    def look(body: bytes) -> bytes:
        beside.append(sorted(file.name for file in state.glob("downloads/*/*.parquet")))
        return body

    hub.faults["data/train-0.parquet"] = [Fault(cut=700)]
    hub.faults["data/train-1.parquet"] = [Fault(change=look)]
    assert pages(streamed, lake) == whole
    assert beside == [[]]  # of the file before
    assert [asked for _, asked in hub.asked] == ["", "bytes=700-", ""]
    assert not list(state.glob("downloads/*")) and not list(Path(lake.base).glob("captures"))


def listed(receipt) -> list[dict]:
    return json.loads(receipt.file("files.json").read_text())


def test_a_streamed_file_is_gone_on_from_and_held_to_its_digest(hub, corpus, lake):
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["data/train-1.parquet"], "stream": True}
    streamed = corpus(kind="huggingface", huggingface=wanted)
    fetch_corpus(streamed, lake)
    hub.faults["data/train-1.parquet"] = [Fault(cut=500)] + [Fault(cut=10)] * 2
    with pytest.raises(ConnectionError, match="train-1.parquet: .* what came is kept"):
        extract_days(streamed, [DAY], lake)
    hub.asked.clear()
    assert len(pages(streamed, lake)) == 5
    assert [asked.startswith("bytes=5") for _, asked in hub.asked] == [True]
    hub.files["data/train-1.parquet"] = parquet(ROWS)
    shutil.rmtree(f"{lake.base}/corpora/texts/pages")
    with pytest.raises(LakeError, match="train-1.parquet: its digest is .*, the hub has"):
        extract_days(streamed, [DAY], lake)


def test_a_file_that_is_not_the_one_of_the_commit_is_an_error(site, hub, corpus, lake):
    hub.files["data/train-1.parquet"] = parquet(ROWS)
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["data/*"]}
    with pytest.raises(LakeError, match=r"1 of 2 files[\s\S]*train-1.parquet: its digest is .*, the hub has"):
        fetch_corpus(corpus(kind="huggingface", huggingface=wanted), lake)
    site.files[f"datasets/{REPO}/resolve/{COMMIT}/extra.jsonl"] = lines(ROWS)
    site.faults[f"api/datasets/{REPO}/tree/{COMMIT}"] = []
    site.pages[f"api/datasets/{REPO}/tree/{COMMIT}"] = lambda query: (
        200, json.dumps([{"type": "file", "oid": "0" * 40, "size": 9, "path": "extra.jsonl"}]).encode()
    )  # fmt: skip
    with pytest.raises(LakeError, match=r"extra.jsonl: its digest is .*, the hub has 0000"):
        fetch_corpus(corpus(kind="huggingface", huggingface={**wanted, "files": ["extra.jsonl"]}), lake)


def test_a_list_of_files_that_never_ends_is_an_error(site, hub, corpus, lake, monkeypatch):
    monkeypatch.setattr("palimpsest.fetch.hub.MOST_PAGES", 4)
    tree = f"api/datasets/{REPO}/tree/{COMMIT}"
    site.faults[tree] = site.faults[tree] * 9
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["data/*"]}
    with pytest.raises(LakeError, match="list of the files of org/texts does not end after 4 pages; correct HF_END"):
        fetch_corpus(corpus(kind="huggingface", huggingface=wanted), lake)
    assert len(site.asked) == 4


def test_a_token_is_for_one_scheme_host_and_port(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://Hub.example")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert tokens().keys() == {origin("https://hub.example:443/api")}
    assert not tokens().keys() & {origin("http://hub.example/"), origin("https://hub.example:8443/")}


@pytest.mark.parametrize("body", [b'{"error": "maintenance"}', b'[{"path": 3}]', b"[" * 100_000,
                                  b'[{"path": "a", "type": "file", "size": "9", "oid": "x"}]'])  # fmt: skip
def test_what_is_no_list_of_files_is_weather(site, hub, corpus, lake, body):
    revision = "0123456789" * 4
    site.pages[f"api/datasets/some/other/tree/{revision}"] = lambda query: (200, body)
    wanted = {"repo": "some/other", "revision": revision, "files": ["*"]}
    with pytest.raises(ConnectionError, match="no list of files"):
        fetch_corpus(corpus(kind="huggingface", huggingface=wanted), lake)


def test_a_pattern_without_a_file_says_what_there_is(hub, corpus, lake):
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["data/valid-*"]}
    with pytest.raises(LakeError, match=r"files\[0\]: no file of org/texts .*'data/valid-\*'; it has data/train-0"):
        fetch_corpus(corpus(kind="huggingface", huggingface=wanted), lake)


def test_a_dataset_behind_a_click_says_what_is_missing(site, hub, corpus, lake):
    site.faults[f"api/datasets/{REPO}/tree/{COMMIT}"] = [Fault(status=401)]
    wanted = {"repo": REPO, "revision": COMMIT, "files": ["*"]}
    with pytest.raises(LakeError, match="HTTP 401: .*HF_TOKEN is for datasets behind a licence click"):
        fetch_corpus(corpus(kind="huggingface", huggingface=wanted), lake)


def test_the_example_is_a_valid_corpus():
    assert load_corpus(REPOSITORY / "docs" / "examples" / "hub.yaml").source.is_remote


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("kind: table\n  files: ['https://host/rows-*.jsonl']", "cannot say what a star matches; name each file"),
        ("kind: table\n  files: ['https://me:secret@host/rows.jsonl']", r"files\.0: .* must hold no password"),
        ("kind: warc\n  files: ['https://host/']", "names no file"),
        (
            "kind: huggingface\n  huggingface: {repo: a/b, revision: main, files: ['*']}",
            r"huggingface.revision: .*'main'",
        ),
        ("kind: huggingface", "needs the key 'huggingface'"),
    ],
)
def test_a_file_that_cannot_be_followed_is_explained(tmp_path, source, message):
    file = tmp_path / "bad.yaml"
    file.write_text(f"name: bad\ndescription: x\nsource:\n  {source}\nstart: 2024-01-01\nend: 2024-01-02\n")
    with pytest.raises(ConfigError, match=message) as raised:
        load_corpus(file)
    assert "secret" not in str(raised.value)
