"""The code that each score hangs on, which is part of its key: files relative to the repository.

Of what they import, that is left out which only hands on settings, or says how a training is seen from outside.
"""

from __future__ import annotations

from palimpsest.config import Method

POOL = (
    *(f"training/selection/{name}.py" for name in ("found", "pool")),
    "plugins/palimpsest/guard/importance.py",
)
"""What every score reads, and what it is said in."""
MODEL = tuple(f"training/{name}.py" for name in ("attention", "loss", "model", "optim"))
TRAINER = (*MODEL, *(f"training/{name}.py" for name in ("data", "evaluate", "run", "short", "step")))
TOKENIZER = "plugins/palimpsest/tokenizer.py"
TARGET = ("training/selection/target.py", TOKENIZER)
LOTS = "plugins/palimpsest/choice.py"

CODE: dict[Method, tuple[str, ...]] = {
    "commonness": ("training/selection/commonness.py", "plugins/palimpsest/words.py"),
    "likelihood": (
        "training/selection/likelihood.py",
        *(f"plugins/palimpsest/guard/{name}.py" for name in ("tokens", "trigram")),
    ),
    "classifier": ("training/selection/classifier.py",),
    "pvm": ("training/selection/pvm.py", *TARGET, *TRAINER),
    "mts": (
        *(f"training/selection/{name}.py" for name in ("commonness", "features", "learner", "mts", "together")),
        "plugins/palimpsest/words.py",
        "training/meta",
        *TARGET,
        *MODEL,
    ),
    "influence": ("training/selection/influence.py", LOTS, *TARGET, *TRAINER),
    "suffix": (
        "training/selection/suffix.py",
        *(f"training/{name}.py" for name in ("evaluate", "export")),
        TOKENIZER,
        *MODEL,
    ),
    "meta_rater": tuple(f"training/selection/{name}.py" for name in ("meta_rater", "proxies")),
    "rank": (),
    "random": ("training/selection/at_random.py", LOTS),
}
"""By method, beside `POOL`. Scores that it is made of, and proxies, are parents: their files say what they are."""
PROXY = ("training/selection/proxies.py", LOTS, *TARGET, *TRAINER)
