"""Every way to score a pool, by the name that study files call it. This only hands over: it is in no score's key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palimpsest import tokenizer
from palimpsest.config import Study
from palimpsest.lake import Published
from training.selection import at_random, classifier, commonness, likelihood
from training.selection.found import Scores, average
from training.selection.pool import Pool

CHEAP = {"commonness": commonness.score, "likelihood": likelihood.score, "classifier": classifier.score}


def score(
    method: str,
    pool: Pool,
    found: Mapping[str, Scores],
    study: Study,
    split: Published,
    made: Sequence[Published] = (),
) -> Scores:
    """The scores of one method; ``found`` are those so far, that others are made of.

    ``made``: what 'meta_rater' has trained (`training.selection.proxies.every`), what 'suffix' reads and reads with.
    """
    match method:
        case "random":
            return at_random.score(pool)
        case "rank":
            return average({name: found[name] for name in study.selection.rank}, pool.origin)
        case "meta_rater":
            from training.selection import meta_rater

            return meta_rater.score(study.selection.meta_rater, found, pool.origin, made)
        case "pvm":
            from training.selection import pvm, target  # torch is loaded where something is trained

            read = target.read(pool, tokenizer.load(split.file("tokenizer.json")))
            return pvm.score(pool, read, study.selection.pvm, study.training)
        case "mts":
            from training import experiment
            from training.selection import mts, target, together

            asked = study.selection.mts
            with experiment.run(study, "selection by mts", asked.model_dump(mode="json")) as own:
                if (share := together.processes(study)) > 1:
                    return together.score(pool, study, share, own)
                read = target.read(pool, tokenizer.load(split.file("tokenizer.json")))
                return mts.score(pool, read, asked, study.training, own.log_metrics)
        case "suffix":
            from training.selection import suffix

            return suffix.score(pool, study, made)
        case "influence":
            from training.selection import influence, target

            read = target.read(pool, tokenizer.load(split.file("tokenizer.json")))
            return influence.score(pool, read, found, study.selection.influence, study.training)
    return CHEAP[method](pool)
