"""Title and caption of every figure of the report."""

from __future__ import annotations

OWN = {
    "loss-by-mix": (
        "Loss on held-out documents, by mix",
        "Further left is better; dashed is real-only. Seeds are paired: a shift that all mixes share tells nothing.",
    ),
    "loss-by-tokens": (
        "What a mix is worth in real tokens",
        "The curve is what more real text would bring. A mix stands at its loss; follow its line to the curve, and "
        "read below how many real tokens would have been needed. Of each family the best mix. Where the curve is "
        "dashed, or the figure says so, the law is extrapolated.",
    ),
    "gain-by-position": (
        "Gain on real-only by position in the document",
        "How well a model uses what it has already read: a curve that rises to the right is a longer memory. Of each "
        "family the best mix.",
    ),
    "gain-by-length": (
        "Gain on real-only by length of the document",
        "Means over all tokens of documents of that length. Of each family the best mix.",
    ),
    "loss-by-members": (
        "Loss of ensembles",
        "Averaged probabilities of K seeds, with the law A / K^B + C through them; dashed where there is something "
        "to hold against it (see Laws). A point is the mean over every choice of K of the seeds, the bar their range. "
        "All points share these seeds: a lucky one shifts them all.",
    ),
    "loss-by-flops": (
        "Loss against training compute",
        "Each mix where its training ended. Where a mix lies below and right of another, its gain was paid for in "
        "training; straight below, it was free.",
    ),
    "loss-by-search": (
        "What the search tried",
        "Losses of one seed on the held-out set that decides, along each axis through the best point (ringed), all "
        "else as there. Pale: the reference on a share of the real text. A ring at an end asks for further values.",
    ),
}
ALONG = {
    "generations": ("generations per document", "One line per family; dashed is real-only."),
    "parameters": ("model size", "All parameters, embeddings among them."),
    "context": ("context length", "Each context is trained and judged as such: compare lines, not points of a line."),
    "batch-tokens": ("batch size", "All else is equal but what a search may tune."),
    "epochs": ("passes over the real text", "All else is equal."),
    "f": ("the synthetic share", "All else is equal."),
    "lr": ("the learning rate", "All else is equal."),
    "weight-decay": ("weight decay", "All else is equal."),
}


def explain(name: str) -> tuple[str, str]:
    """Title and caption."""
    if name in OWN:
        return OWN[name]
    what, axis = name.split("-by-", 1)
    words, note = ALONG[axis]
    if what == "loss":
        return f"Loss against {words}", f"{note} Pale dots are seeds."
    return (
        f"What keeping generations together gains, against {words}",
        "Loss of the simple layout minus that of the megadoc at the same place, seed by seed; above 0 the megadoc is "
        "better. Bars: 95% intervals from seed noise.",
    )
