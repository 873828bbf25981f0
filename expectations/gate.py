"""The gates: published data in, a published verdict out, or `GateFailed` with a table a person can act on.

Only a failed ``critical`` expectation stops; a failed ``warning`` is shown and kept. The verdict of a failed gate is
published too, as ``…/gate_failed``, so that its record and its Data Docs stay.
"""

from __future__ import annotations

import json
import logging
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from expectations import contracts, measure
from expectations.guard import dashboard, ladder, real, shares, spoken, tasks, waivers
from expectations.guard import judge as guarded
from expectations.guard.limits import calibrated
from expectations.verdicts import GateFailed, Judged, Verdict, data_docs_link, table
from palimpsest import align, decontamination
from palimpsest.config import Corpus, Study, evaluation_sets
from palimpsest.guard import calibration
from palimpsest.guard.verdict import Verdict as GuardVerdict
from palimpsest.lake import Facts, Lake, Published, digest_file, digest_json

log = logging.getLogger(__name__)

MEASURES = ["strategy", "generator", "metric", "value", "real_mean", "real_sd"]
CODE = ("expectations", *calibration.CODE, "plugins/palimpsest/provenance.py")


def gate_documents(corpus: Corpus, lake: Lake, *, documents: Published) -> Published:
    """``corpora/<c>/gate``: the verdict on a corpus's documents."""
    published = {name: documents for name in contracts.DOCUMENTS}

    def judge() -> Judged:
        from expectations import suites

        connection = measure.connect(published)
        profiles = {"tables": measure.tables(connection, contracts.DOCUMENTS, published)}
        chosen = {"tables": suites.tables()}
        if not profiles["tables"]["wrong_columns"].any():
            profiles["balances"] = measure.balances(_document_balances(lake, documents))
            profiles["documents"] = measure.documents(connection, corpus)
            chosen |= {"balances": suites.balances(), "documents": suites.documents(corpus)}
        return _judge(dataset, profiles, chosen)

    dataset = f"corpora/{corpus.name}/gate"
    remedy = f"Loosen or repair the rules under 'documents' in {corpus.path}, or correct the stage that made the data"
    config = {"documents": corpus.documents.model_dump()}
    return _gate(lake, dataset, judge, config=config, parents=[documents], remedy=remedy)


def gate_study(
    study: Study,
    lake: Lake,
    *,
    split: Published,
    generations: Published,
    mixes: Published,
    probe: Published | None = None,
) -> Published:
    """``studies/<s>/gate``: the verdict on a study's generations, megadocs and mixes.

    ``probe`` is what neural models made of the same data, where the study asks for it (``guard.probe``). A generator
    whose text stops the study for its variety is put in quarantine.
    """
    of = {"train": split, "validation": split, "generations": generations, "generation_drops": generations}
    published = {name: of.get(name, mixes) for name in contracts.STUDY}
    data = [split, generations, mixes]
    study = calibrated(study, lake)
    waived = waivers.in_force(study, lake, data, guarded.today())
    audits = lake.versions(f"studies/{study.name}/audits")
    weights = align.of_mixes(lake, mixes)

    def judge() -> Judged:
        from expectations import suites
        from expectations.guard.aligned import judge_aligned
        from expectations.guard.texts import Known, judge_texts
        from palimpsest.guard import audit

        connection = measure.connect(published)
        profiles = {"tables": measure.tables(connection, contracts.STUDY, published)}
        chosen, found = {"tables": suites.tables()}, []
        if not profiles["tables"]["wrong_columns"].any():
            profiles["balances"] = measure.balances(_study_balances(split, generations))
            profiles["generations"] = measure.generations(connection, study)
            profiles["defects"] = measure.defects(connection)
            profiles["megadocs"] = measure.megadocs(connection, study, weights)
            profiles["mixes"] = measure.mixes(connection, study)
            known = Known(probe.extra["strategies"] if probe else None, audit.answers(audits))
            texts = judge_texts(connection, study, lake, known)
            judge_aligned(connection, study, weights, texts)
            texts.measures += dashboard.figures(connection, study)
            found = guarded.verdicts(
                connection, study, lake, split=split, mixes=mixes, waived=waived, measured=texts.verdicts
            )
            for sentence in waivers.idle(study, found, guarded.today()):
                log.warning("%s", sentence)
            profiles["guard_measures"] = pd.DataFrame(texts.measures, columns=MEASURES)
            if texts.detector is not None:
                profiles["detector"] = texts.detector
            profiles["guard"] = guarded.table(found)
            chosen |= {"balances": suites.balances(), **suites.study(study)}
            chosen["guard"] = suites.guard({verdict.gate for verdict in found})
        day = connection.execute("select max(day) from train").fetchall()[0][0] if found else None
        return replace(_judge(dataset, profiles, chosen), guard=found, data_until=str(day) if day else None)

    dataset = f"studies/{study.name}/gate"
    remedy = (
        f"Change the study or its thresholds ('gates' and 'guard' in {study.path}), or correct the stage that made the "
        "data"
    )
    config = study.model_dump(mode="json", include={"gates", "guard", "strategies", "layouts", "mixes"})
    config["waived"] = waivers.as_rows(waived)
    config["tombstones"] = digest_json(sorted(real.tombstones(study)))
    config["swept"] = shares.is_swept(study, lake)
    if asked := tasks.files(study):
        config["tasks"] = {name: digest_file(file) for name, file in asked.items()}
    if sets := evaluation_sets(study):
        config["evaluation_sets"] = decontamination.canonical(sets)
    config["audits"] = [published.digest for published in audits]
    config["documents"] = [parent["digest"] for parent in split.manifest["parents"]]  # compared with those before (G3)
    parents = [*data, *(published for published in (probe, weights) if published)]
    try:
        return _gate(lake, dataset, judge, config=config, parents=parents, remedy=remedy)
    except GateFailed as failure:
        for entry in ladder.put_in_quarantine(study, lake, failure.record):
            log.warning("%s", entry.sentence)
        raise


def latest_probe(study: Study, lake: Lake, data: Sequence[Published]) -> Published | None:
    """What `training.probe` made of this very data; None where the study has no probe, or it has not run on it."""
    digests = {published.digest for published in data}
    found = lake.versions(f"studies/{study.name}/probe") if study.guard.probe else []
    fitting = [p for p in found if {parent["digest"] for parent in p.manifest["parents"]} == digests]
    return fitting[-1] if fitting else None


def _gate(
    lake: Lake,
    dataset: str,
    judge: Callable[[], Judged],
    *,
    config: Mapping[str, object],
    parents: Sequence[Published],
    remedy: str,
) -> Published:
    failed: list[Judged] = []

    def write(directory: Path) -> Facts:
        judged = judge()
        if judged.blocking:
            failed.append(judged)
            raise GateFailed(_message(dataset, judged, remedy), _waivable(judged), spoken.probe_report(judged.guard))
        return _keep(directory, judged)

    try:
        published = lake.publish(dataset, write, config=config, parents=parents, code=CODE)
    except GateFailed as failure:
        verdicts = [asdict(v) for v in failed[0].verdicts]
        stopped = lake.publish(
            f"{dataset}_failed",
            lambda directory: _keep(directory, failed[0]),
            config={**config, "verdicts": verdicts},
            parents=parents,
            code=CODE,
        )
        lake.point(stopped)
        failure.record = stopped
        raise
    lake.point(published)  # anew: of letting through and stopping, the one pointed to last is the gate's word
    spoken.log_verdicts(published.extra.get("guard", []))
    for warning in (w for w in published.extra["warnings"] if w["suite"] != "guard"):
        log.warning("%s: warning: %s; observed: %s", dataset, warning["sentence"], warning["observed"])
    log.info("%s: %s", dataset, published.extra["summary"])
    return published


def _judge(dataset: str, profiles: Mapping[str, pd.DataFrame], chosen: Mapping) -> Judged:
    from expectations.checkpoint import judge

    with tempfile.TemporaryDirectory() as folder:
        return judge(dataset, profiles, _write(Path(folder), profiles), chosen)


def _waivable(judged: Judged) -> list[dict[str, object]]:
    """The guard's breaches, if nothing else blocks and a person may answer for all of them."""
    breaches = [verdict for verdict in judged.guard if guarded.blocks(verdict)]
    if {v.suite for v in judged.blocking} != {"guard"} or not all(map(guarded.is_waivable, breaches)):
        return []
    return [_said(verdict) for verdict in breaches]


def _said(verdict: GuardVerdict) -> dict[str, object]:
    """A guard's verdict for a manifest."""
    return {**verdict.as_dict(), "waivable": guarded.is_waivable(verdict)}


def _write(folder: Path, profiles: Mapping[str, pd.DataFrame]) -> dict[str, Path]:
    files = {name: folder / f"{name}.parquet" for name in profiles}
    for name, profile in profiles.items():
        profile.to_parquet(files[name], index=False)
    return files


def _keep(directory: Path, judged: Judged) -> Facts:
    rows = [asdict(verdict) for verdict in judged.verdicts]
    pd.DataFrame(rows).to_parquet(directory / "verdicts.parquet", index=False)
    (directory / "profiles").mkdir()
    _write(directory / "profiles", judged.profiles)
    warnings = [asdict(v) for v in judged.warnings]
    extra = {
        "success": not judged.blocking,
        "summary": f"{len(rows) - len(judged.failed)} of {len(rows)} expectations hold, "
        f"{len(judged.blocking)} critical failures, {len(warnings)} warnings",
        "warnings": warnings,
        "data_docs": judged.page,
        "pages": judged.pages,
        "guard": [_said(verdict) for verdict in judged.guard],
        "data_until": judged.data_until,
    }
    said = "".join(f"{spoken.spoken(verdict)}\n" for verdict in extra["guard"])
    (directory / "guard.txt").write_text(said, encoding="utf-8")
    (directory / "verdict.json").write_text(json.dumps({**extra, "verdicts": rows}, indent=1))
    return Facts(extra=extra)


def _message(dataset: str, judged: Judged, remedy: str) -> str:
    count = len(judged.blocking)
    return (
        f"{dataset}: {count} critical expectation{'s do' if count > 1 else ' does'} not hold; "
        "nothing after it was run.\n\n"
        f"{table([*judged.blocking, *judged.warnings])}\n\n"
        f"{_settings(judged.blocking)}\n"
        f"{spoken.advice(judged.guard)}"
        f"Data Docs: {data_docs_link(judged.page)}\n"
        f"{remedy}; then run again."
    )


def _settings(verdicts: Sequence[Verdict]) -> str:
    """Which key each broken rule has its threshold in, a line each; for a rule without one, that it has none."""
    keys = {v.sentence: v.setting for v in verdicts}
    said = (f"  {key or '(none: correct the data)'}  {textwrap.shorten(name, 80)}" for name, key in keys.items())
    return "\n".join(["Key of each threshold:", *said, ""])


def _document_balances(lake: Lake, documents: Published) -> dict[str, tuple[int, int]]:
    kept, dropped = (measure.stated_rows(documents, name) for name in ("documents", "document_drops"))
    parents = [p for p in documents.manifest["parents"] if "/pages/" in p["dataset"]]
    pages = sum(measure.stated_rows(lake.open(p["uri"], p["digest"]), "pages") for p in parents)
    return {"pages = documents + drops": (pages, kept + dropped), **measure.manifest_balances(documents)}


def _study_balances(split: Published, generations: Published) -> dict[str, tuple[int, int]]:
    balances = {**measure.manifest_balances(split), **measure.manifest_balances(generations)}
    if split.manifest["rows"]:
        parts = sum(measure.stated_rows(split, name) for name in ("train", "validation", "split_drops"))
        balances["documents = training + validation + drops"] = (split.manifest["rows"]["input"], parts)
    if generations.manifest["rows"]:
        stated = generations.manifest["rows"]
        for side, table in ((stated["kept"], "generations"), (sum(stated["dropped"].values()), "generation_drops")):
            kind = "kept" if table == "generations" else "dropped"
            balances[f"generations {kind} = {table} found"] = (side, measure.stated_rows(generations, table))
    return balances
