"""Files of a dataset on the hub that are fetched when their rows are read, one at a time, and deleted after."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from palimpsest.config import Corpus, Transfer
from palimpsest.fetch import hub
from palimpsest.fetch.bring import alone
from palimpsest.fetch.connection import Client
from palimpsest.fetch.transfer import fetch_file
from palimpsest.fetch.verify import check_table
from palimpsest.ingest.records import SourceFile
from palimpsest.lake import Facts, Lake, NotPublished, Published, digest_json
from palimpsest.state import state_dir


@dataclass(frozen=True, kw_only=True)
class StreamedFile(SourceFile):
    """``path`` is where it lies while it is `at_hand`."""

    of: hub.HubFile
    how: Transfer

    @property
    def size(self) -> int:
        return self.of.size

    @property
    def fingerprint(self) -> dict[str, str]:
        known = {"sha256": self.sha256} if self.sha256 else {"git_sha1": self.of.git_sha1}
        return {"name": self.name, **known}

    def check(self) -> None:
        """Nothing yet: it is checked whenever it comes."""

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[None]:
        """Raises as `fetch_file` does. What came of a file stays until it has been read, and is gone on from."""

        def check(path: Path) -> None:
            self.of.check(path)
            check_table(path)

        held = alone(self.path.parent)
        try:
            with Client(1, self.how.stall_s, tokens=hub.tokens()) as client:
                fetch_file(self.of.url, self.path, client, self.how, check)
            yield
            shutil.rmtree(self.path.parent)
        finally:
            os.close(held)


def list_streamed(corpus: Corpus, lake: Lake) -> Published:
    """``corpora/<corpus>/streamed``: the list of the corpus' files with their digests; none of them is fetched."""
    config = _asked(corpus)
    if existing := lake.version(_dataset(corpus), config=config):
        lake.point(existing)
        return existing
    with Client(1, corpus.source.transfer.stall_s, tokens=hub.tokens()) as client:
        files = hub.dataset_files(corpus, client)
    listed = [{"path": f.path, "size": f.size, "sha256": f.sha256, "git_sha1": f.git_sha1} for f in files]

    def write(directory: Path) -> Facts:
        (directory / "files.json").write_text(json.dumps(listed, indent=1) + "\n")
        return Facts(extra={"files": len(files), "bytes": sum(file.size for file in files)})

    return lake.publish(_dataset(corpus), write, config=config)


def streamed_files(corpus: Corpus, lake: Lake) -> list[StreamedFile]:
    """The files of the list. Raises `NotPublished` where the corpus file names others, or none were listed yet."""
    listed = lake.version(_dataset(corpus), config=_asked(corpus))
    if listed is None:
        raise NotPublished(
            f"{corpus.path}: the files of source.huggingface are not listed in lake {lake.root}; list them first: "
            f"python -m palimpsest fetch {corpus.name}"
        )
    found = []
    for entry in json.loads(listed.file("files.json").read_text()):
        of = hub.file_of(corpus, entry["path"], entry["size"], entry["sha256"], entry["git_sha1"])
        folder = state_dir() / "downloads" / digest_json(of.name)[:16]
        path = folder / of.path.rsplit("/", 1)[-1]
        found.append(StreamedFile(of.name, path, entry["sha256"] or "", of=of, how=corpus.source.transfer))
    return found


def _dataset(corpus: Corpus) -> str:
    return f"corpora/{corpus.name}/streamed"


def _asked(corpus: Corpus) -> dict[str, object]:
    return corpus.source.huggingface.model_dump(mode="json", exclude={"stream"})
