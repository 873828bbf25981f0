"""The typed corpus and study files: everything a run does follows from them.

``load_corpus`` and ``load_study`` turn YAML into models or raise `ConfigError`: one message naming file, key, what is
wrong and what is allowed. ``json_schema`` gives editors completion.
"""

from __future__ import annotations

from palimpsest.config.base import ConfigError
from palimpsest.config.corpus import Cleaning, Corpus, Definitions, DocumentRules, Extraction, Limits
from palimpsest.config.evaluation import Decontamination, EvaluationSet, HeldOutSet, Judging, Task, Validation
from palimpsest.config.files import (
    check_files,
    corpora_dir,
    data_dir,
    evaluation_sets,
    json_schema,
    kinds,
    labelled_dir,
    load_corpus,
    load_labelled,
    load_loop,
    load_study,
    loops_dir,
    matching,
    missing_files,
    named_files,
    remedy,
    resolve,
    studies_dir,
    told,
    unresolved,
)
from palimpsest.config.generation import Engine, Review, Sampling, Server, Strategy
from palimpsest.config.guard import Guard, NeuralProbe, Waiver
from palimpsest.config.labelled import Labelled
from palimpsest.config.loop import BASELINE, Arm, Loop
from palimpsest.config.mixes import AXES, Match, Mix, Search
from palimpsest.config.selection import MTS, PVM, TRAINED, Influence, MetaRater, Method, Select, Selection, Suffix
from palimpsest.config.source import CommonCrawl, Crawl, HuggingFace, Query, Segments, Source, Transfer, is_url
from palimpsest.config.study import Study
from palimpsest.config.table import Columns, SampleColumns
from palimpsest.config.training import Model, Optimizer, ShortTraining, Training

__all__ = [
    "Cleaning",
    "Columns",
    "CommonCrawl",
    "Crawl",
    "HuggingFace",
    "is_url",
    "Query",
    "Segments",
    "Transfer",
    "SampleColumns",
    "data_dir",
    "remedy",
    "unresolved",
    "Validation",
    "Decontamination",
    "Definitions",
    "EvaluationSet",
    "evaluation_sets",
    "Task",
    "Search",
    "Mix",
    "Match",
    "Judging",
    "HeldOutSet",
    "Guard",
    "Waiver",
    "AXES",
    "ConfigError",
    "Corpus",
    "DocumentRules",
    "Engine",
    "Extraction",
    "Limits",
    "Model",
    "NeuralProbe",
    "Optimizer",
    "Method",
    "MTS",
    "PVM",
    "TRAINED",
    "Influence",
    "MetaRater",
    "Review",
    "Select",
    "Selection",
    "Sampling",
    "Server",
    "Source",
    "Strategy",
    "Study",
    "Suffix",
    "ShortTraining",
    "Training",
    "check_files",
    "corpora_dir",
    "json_schema",
    "kinds",
    "labelled_dir",
    "load_corpus",
    "load_labelled",
    "load_loop",
    "loops_dir",
    "matching",
    "Labelled",
    "Loop",
    "Arm",
    "BASELINE",
    "load_study",
    "missing_files",
    "named_files",
    "told",
    "resolve",
    "studies_dir",
]
