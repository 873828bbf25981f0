"""The lake: every dataset of a run, published whole or not at all.

A dataset lives at ``<dataset>/<key>/`` where ``key`` hashes the config, the parents' digests and the code that made
it, so an unchanged stage finds its own output and does nothing. Files are written to a hidden sibling first; the
manifest is written last and the directory renamed (on object stores: uploaded with the manifest last). *Published*
means: the manifest exists and the digest in it holds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import fsspec

from palimpsest.durable import fsync, lock, make_directory, move_durably, partial_beside, sweep, write_durably
from palimpsest.manifest import (
    MANIFEST,
    REPOSITORY,
    SCHEMA_VERSION,
    Corrupt,
    Facts,
    LakeError,
    NotPublished,
    Rows,
    check_files,
    describe_files,
    digest_code,
    digest_file,
    digest_json,
)

__all__ = [
    "MANIFEST",
    "REPOSITORY",
    "Corrupt",
    "Facts",
    "Lake",
    "LakeError",
    "NotPublished",
    "Published",
    "Rows",
    "digest_code",
    "digest_file",
    "digest_json",
]


@dataclass(frozen=True)
class Published:
    """One immutable dataset version in the lake."""

    lake: Lake
    uri: str
    manifest: Mapping[str, object]

    @property
    def digest(self) -> str:
        return self.manifest["digest"]

    @property
    def dataset(self) -> str:
        return self.manifest["dataset"]

    @property
    def extra(self) -> Mapping[str, object]:
        return self.manifest["extra"]

    @property
    def ref(self) -> dict[str, str]:
        """What travels through XCom and asset events: the URI and the digest, nothing bigger."""
        return {"uri": self.uri, "digest": self.digest}

    @cached_property
    def path(self) -> Path:
        """A local directory with the dataset's files, checked against the manifest (a remote lake's: downloaded once).

        Raises `Corrupt` if a file is lost or changed.
        """
        directory = self.lake.fetch(self)
        check_files(fsspec.filesystem("file"), str(directory), self.manifest)
        return directory

    def file(self, name: str) -> Path:
        return self.path / name


class Lake:
    """All data of the platform under one root: a local folder or any fsspec URL (``s3://bucket/prefix``)."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = str(root)
        try:
            self.fs, self.base = fsspec.core.url_to_fs(self.root)
        except (ImportError, ValueError) as error:
            raise LakeError(f"PALIMPSEST_LAKE is {self.root}: {error}; then start again, or name a folder") from None
        self.local = self.fs.protocol == "file" or "file" in self.fs.protocol
        if self.local:
            self.base = str(Path(self.base).resolve())
        elif hasattr(self.fs, "dircache"):
            self.fs.dircache.use_listings_cache = False  # or what other processes publish is never seen
        self.published: list[Published] = []
        """What this process has published here, or found published, since it opened the lake: for the catalog."""

    @classmethod
    def from_env(cls) -> Lake:
        return cls(os.environ.get("PALIMPSEST_LAKE") or str(REPOSITORY / "lake"))

    def publish(
        self,
        dataset: str,
        write: Callable[[Path], Facts],
        *,
        config: Mapping[str, object] | None = None,
        parents: Sequence[Published] = (),
        code: Sequence[str] = (),
    ) -> Published:
        """The dataset's version for this config, these parents and this code; ``write`` runs only if it is missing.

        ``write(directory)`` puts files into an empty local directory and returns `Facts`. If it raises, or the
        process dies at any instant, nothing is published and the next call starts over.
        """
        key = _key(dataset, config, parents, code)
        uri = f"{dataset}/{key}"
        existing = self._read_manifest(uri)
        if existing is not None:
            published = Published(self, uri, existing)
            self.verify(published)
            self._point(dataset, published)
            return published
        staging, held = self._staging(uri)
        try:
            facts = write(staging)
            if facts.rows is not None:
                facts.rows.check(dataset)
            manifest = {
                "schema": SCHEMA_VERSION,
                "dataset": dataset,
                "key": key,
                **describe_files(staging),
                "rows": None if facts.rows is None else facts.rows.as_dict(),
                "parents": [{"dataset": p.dataset, "uri": p.uri, "digest": p.digest} for p in parents],
                "config": config or {},
                "extra": facts.extra,
            }
            write_durably(staging / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, default=str))
            self._commit(staging, uri)
        except OSError as error:
            self._explain(error, dataset)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            os.close(held)
        published = self.open(uri)
        self._point(dataset, published)
        return published

    def version(
        self,
        dataset: str,
        *,
        config: Mapping[str, object] | None = None,
        parents: Sequence[Published] = (),
        code: Sequence[str] = (),
    ) -> Published | None:
        """The version that `publish` would find for the same arguments, or None; its files are not checked."""
        uri = f"{dataset}/{_key(dataset, config, parents, code)}"
        manifest = self._read_manifest(uri)
        return Published(self, uri, manifest) if manifest else None

    def open(self, uri: str, digest: str | None = None) -> Published:
        """The published version at ``uri``; with ``digest`` given, it must be that very content."""
        manifest = self._read_manifest(uri)
        if manifest is None:
            raise NotPublished(f"{uri} is not published in lake {self.root}; run the stage that makes it again")
        if digest is not None and manifest["digest"] != digest:
            raise Corrupt(f"{uri} has digest {manifest['digest'][:12]}, expected {digest[:12]}; re-run the stage")
        return Published(self, uri, manifest)

    def latest(self, dataset: str) -> Published:
        """The version published last under this name."""
        pointer = f"{self.base}/{dataset}/latest.json"
        try:
            with self.weather():
                content = self.fs.cat_file(pointer)
            uri = json.loads(content)["uri"]
        except FileNotFoundError:
            raise NotPublished(
                f"{dataset} has never been published in lake {self.root}; run the stage that makes it first "
                "(python -m palimpsest --help lists them)"
            ) from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise Corrupt(f"{pointer} is damaged ({error}); delete it and re-run the stage") from None
        return self.open(uri)

    def point(self, published: Published) -> None:
        """Let `latest` find this version; done again, it says again, with the time of now, that this is the last."""
        self.write_file(f"{published.dataset}/latest.json", json.dumps(published.ref).encode())

    def pointed_at(self, dataset: str) -> dt.datetime | None:
        """When it was last said which version `latest` finds; None if there is none."""
        try:
            with self.weather():
                return self.fs.modified(f"{self.base}/{dataset}/latest.json")
        except FileNotFoundError:
            return None

    def published_at(self, published: Published) -> dt.datetime:
        """When the version was published, in UTC: the time of its manifest, which a copied lake may not have kept."""
        with self.weather():
            moment = self.fs.modified(f"{self.base}/{published.uri}/{MANIFEST}")
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)

    def versions(self, dataset: str) -> list[Published]:
        """Every version of a dataset that the lake still holds, the oldest first; the last is the one of `latest`.

        What was published again, such as by going back to an old config, is newer than what was published meanwhile.
        """
        with self.weather():
            places = [str(place) for place in self.fs.glob(f"{self.base}/{dataset}/*/{MANIFEST}")]
            keys = {place: Path(place).parent.name for place in places}
            # fsspec's * finds what is still being written, too
            times = {key: self.fs.modified(place) for place, key in keys.items() if not key.startswith(".")}
            is_pointed = self.fs.exists(f"{self.base}/{dataset}/latest.json")
        newest = self.latest(dataset).uri if is_pointed else None
        found = [self.open(f"{dataset}/{key}") for key in sorted(times, key=lambda key: (times[key], key))]
        return sorted(found, key=lambda version: version.uri == newest)

    def children(self, dataset: str) -> list[Published]:
        """The latest version of each dataset directly below ``dataset`` (the days of a corpus), in name order."""
        base = f"{self.base}/{dataset}"
        with self.weather():
            if not self.fs.exists(base):
                return []
            names = sorted(Path(str(entry)).name for entry in self.fs.ls(base, detail=False))
            names = [name for name in names if self.fs.exists(f"{base}/{name}/latest.json")]
        return [self.latest(f"{dataset}/{name}") for name in names]

    def all_latest(self) -> list[Published]:
        """The latest version of every dataset of the lake, in name order."""
        with self.weather():
            pointers = sorted(str(p) for p in self.fs.glob(f"{self.base}/**/latest.json"))
        return [self.latest(p.removeprefix(f"{self.base}/").removesuffix("/latest.json")) for p in pointers]

    def verify(self, published: Published) -> None:
        """Raise `Corrupt` unless every file still matches the manifest."""
        with self.weather():
            check_files(self.fs, f"{self.base}/{published.uri}", published.manifest)

    def fetch(self, published: Published) -> Path:
        """A local directory with the files, unchecked (`Published.path` checks them)."""
        if self.local:
            return Path(self.base) / published.uri
        cache = self.copies() / published.uri / published.digest[:16]
        if not (cache / MANIFEST).exists():
            cache.parent.mkdir(parents=True, exist_ok=True)
            partial = cache.with_name(f".{cache.name}.{secrets.token_hex(4)}")
            with self.weather():
                self.fs.get(f"{self.base}/{published.uri}", str(partial), recursive=True)
            try:
                os.replace(partial, cache)
            except OSError:  # another process was first; anything else is an error
                shutil.rmtree(partial)
                if not (cache / MANIFEST).exists():
                    raise
        return cache

    @contextlib.contextmanager
    def weather(self) -> Iterator[None]:
        """Whatever fails inside on a remote lake, other than a file that is missing or forbidden, may pass."""
        try:
            yield
        except Exception as error:
            known = (LakeError, FileNotFoundError, PermissionError, NotADirectoryError, ConnectionError, TimeoutError)
            if self.local or isinstance(error, known):
                raise
            raise ConnectionError(f"lake {self.root}: {error or type(error).__name__}") from error

    def copies(self) -> Path:
        """Where this machine keeps copies of a remote lake's files; nobody else can write there."""
        place = Path(tempfile.gettempdir()) / f"palimpsest-lake-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        if place.stat().st_uid != os.getuid() or place.stat().st_mode & 0o077:
            raise LakeError(f"{place}: others may have written to it; delete it, it only holds copies from the lake")
        return place / digest_json(self.root)[:8]

    def write_file(self, name: str, content: bytes) -> None:
        """Put one file into the lake, durably and whole: readers see all of it or nothing."""
        target = f"{self.base}/{name}"
        if not self.local:
            with self.weather():
                self.fs.pipe_file(target, content)
            return
        path = Path(target)
        partial = partial_beside(path)
        try:
            make_directory(path.parent)
            partial.write_bytes(content)
            move_durably(partial, path)
        except OSError as error:
            self._explain(error, name)
            raise
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()

    def _explain(self, error: OSError, name: str) -> None:
        """Raise what could not be written, and the way out; weather, and what says so already, is left as it is."""
        if not isinstance(error, ConnectionError) and "PALIMPSEST_LAKE" not in str(error):
            raise OSError(
                error.errno,
                f"cannot write {name} under lake {self.root}: {error.strerror or error}. Free space or make it "
                "writable, or point PALIMPSEST_LAKE elsewhere; nothing half written was kept, run this stage again",
            ) from error

    def _read_manifest(self, uri: str) -> dict | None:
        try:
            with self.weather():
                content = self.fs.cat_file(f"{self.base}/{uri}/{MANIFEST}")
            return json.loads(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except json.JSONDecodeError as error:
            raise Corrupt(f"{self.base}/{uri}/{MANIFEST} is damaged ({error}); delete its folder and re-run") from None

    def _staging(self, uri: str) -> tuple[Path, int]:
        """An empty directory to write into, and the lock that says its writer is alive.

        Directories of writers that were killed are swept on the way: their lock is free.
        """
        name = f".{Path(uri).name}.{secrets.token_hex(4)}.partial"
        try:
            if self.local:
                staging = Path(self.base) / Path(uri).parent / name
                make_directory(staging)
            else:
                staging = Path(tempfile.mkdtemp(suffix=name))
        except OSError as error:
            raise OSError(
                error.errno,
                f"lake {self.root} is not writable: {error.strerror}. Set PALIMPSEST_LAKE to a writable folder or URL",
            ) from error
        held = lock(staging)
        for other in staging.parent.glob(".*.partial") if self.local else ():
            sweep(other)
            free = None if other == staging or other.is_file() else lock(other)
            if free is not None:
                shutil.rmtree(other, ignore_errors=True)
                os.close(free)
        return staging, held

    def _commit(self, staging: Path, uri: str) -> None:
        target = f"{self.base}/{uri}"
        if self.local:
            for entry in (*staging.rglob("*"), staging):
                fsync(entry)
            if self._read_manifest(uri) is not None:  # another process was first: readers may have it open
                return
            if Path(target).exists():  # an unfinished or emptied directory: no manifest, so nobody may read it
                shutil.rmtree(target)
            os.rename(staging, target)
            fsync(Path(target).parent)
            return
        files = sorted(f for f in staging.rglob("*") if f.is_file() and f.name != MANIFEST)
        with self.weather():
            for file in [*files, staging / MANIFEST]:
                self.fs.makedirs(str(Path(target, file.relative_to(staging)).parent), exist_ok=True)
                self.fs.put_file(str(file), f"{target}/{file.relative_to(staging)}")

    def _point(self, dataset: str, published: Published) -> None:
        self.published.append(published)
        pointer, content = f"{self.base}/{dataset}/latest.json", json.dumps(published.ref).encode()
        if not self.fs.exists(pointer) or self.fs.cat_file(pointer) != content:
            self.point(published)


def _key(dataset: str, config: Mapping[str, object] | None, parents: Sequence[Published], code: Sequence[str]) -> str:
    return digest_json([dataset, config or {}, [p.digest for p in parents], digest_code(*code)])[:16]
