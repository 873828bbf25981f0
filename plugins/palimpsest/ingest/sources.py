"""The files of a corpus, and their digests."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import sys
import sysconfig
from pathlib import Path

from palimpsest.config import Corpus, is_url, remedy, resolve, unresolved
from palimpsest.fetch.stage import fetched_files
from palimpsest.guard.corpus import cpython_documents
from palimpsest.ingest.records import SourceFile
from palimpsest.lake import Lake, LakeError, digest_code, digest_json
from palimpsest.state import state_dir


def source_files(corpus: Corpus, lake: Lake) -> list[SourceFile]:
    """Every file of the corpus once, sorted by name. Raises `LakeError` for a pattern that finds nothing, and for what
    is still to be fetched.
    """
    if corpus.source.kind == "cpython":
        return [SourceFile("cpython", cpython_table())]
    found = {file.name: file for file in fetched_files(corpus, lake)} if corpus.source.is_remote else {}
    for number, pattern in enumerate(corpus.source.files):
        if is_url(pattern):
            continue
        paths = [Path(p) for p in glob.glob(str(resolve(pattern)), recursive=True) if Path(p).is_file()]
        if not paths:
            raise LakeError(
                f"{corpus.path}: source.files[{number}]: no file matches '{pattern}' (looked at {resolve(pattern)}); "
                f"{remedy(pattern)}"
            )
        for path in paths:
            name = unresolved(path)
            found[name] = SourceFile(name, path)
    return [found[name] for name in sorted(found)]


def cpython_table() -> Path:
    """This Python's own texts as a table of url and text, written once to the state folder.

    Once per version, place of the standard library (distributions leave out different parts of it) and reader.
    """
    folder = state_dir() / "sources"
    made_of = digest_json([sysconfig.get_path("stdlib"), digest_code("plugins/palimpsest/guard/corpus.py")])
    file = folder / f"cpython-{'.'.join(map(str, sys.version_info[:3]))}-{made_of[:12]}.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        with partial.open("w", encoding="utf-8") as out:
            for text in cpython_documents():
                name = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
                out.write(json.dumps({"url": f"https://cpython.example/{name}", "text": text}) + "\n")
        os.replace(partial, file)
    return file
