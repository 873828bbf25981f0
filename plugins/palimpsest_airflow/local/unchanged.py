"""Whether the demo has anything to do: a fingerprint of all that its report depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from palimpsest.config import Corpus, Study, named_files, resolve
from palimpsest.lake import Lake, LakeError, Published, digest_code, digest_file

CODE = ("plugins/palimpsest", "dbt_project", "expectations", "training")


def fingerprint(corpora: list[Corpus], study: Study) -> str:
    """One digest of the YAML files, every file they name, and the code that works on them."""
    found = hashlib.sha256(digest_code(*CODE).encode())
    for file in sorted(set(_files(corpora, study))):
        found.update(f"{file}\0{digest_file(file) if file.is_file() else 'missing'}\0".encode())
    return found.hexdigest()


def remembered(memory: Path, wanted: str, lake: Lake) -> Published | None:
    """The report an earlier demo made of the very same inputs, if it is still whole."""
    try:
        found = json.loads(memory.read_text())
        if found["fingerprint"] != wanted or found["lake"] != lake.root:
            return None
        published = lake.open(found["report"]["uri"], found["report"]["digest"])
        lake.verify(published)
    except (OSError, KeyError, json.JSONDecodeError, LakeError):
        return None
    return published


def remember(memory: Path, wanted: str, published: Published) -> None:
    content = {"fingerprint": wanted, "lake": published.lake.root, "report": published.ref}
    memory.write_text(json.dumps(content, indent=1))


def _files(corpora: list[Corpus], study: Study) -> Iterator[Path]:
    for loaded in (*corpora, study):
        yield loaded.path
        for name in named_files(loaded).values():
            yield from (Path(match) for match in sorted(glob(str(resolve(name)))) or [str(resolve(name))])
