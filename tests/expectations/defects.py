"""One defect per expectation: how to spoil the good tables, and which expectations must then fail."""

from __future__ import annotations

from tests.expectations.conftest import TRAIN, VALIDATION


def change(table: str, spoil):
    """Spoil one table in place: ``spoil`` gets its rows, and may return others."""
    return lambda name, rows: (spoil(rows) or rows) if name == table else rows


def put(rows: list[dict], numbers, **values):
    """Set columns of some rows; a callable value is called with the row."""
    for i in numbers:
        rows[i].update({k: v(rows[i]) if callable(v) else v for k, v in values.items()})


def validation_words(count: int, start: int = 5) -> str:
    return " ".join(VALIDATION[0]["text"].split()[start : start + count])


def without_its_real_stream(rows: list[dict]) -> list[dict]:
    """The stitched recipe, trained on its synthetic stream alone."""
    put(rows, [2], sequences=168)
    return [rows[0], rows[2]]


DOCUMENT_DEFECTS = {
    "a page is neither kept nor dropped": (change("documents", lambda rows: rows[1:]), {"row_balances_add_up"}),
    "a column is gone": (
        change("documents", lambda rows: [{k: v for k, v in r.items() if k != "language"} for r in rows]),
        {"tables_have_their_columns"},
    ),
    "a column has another type": (
        change("documents", lambda rows: put(rows, range(12), words=lambda r: str(r["words"]))),
        {"tables_have_their_columns"},
    ),
    "a document is empty": (change("documents", lambda rows: put(rows, [0], text=" \n")), {"documents_have_text"}),
    "documents are too short": (
        change("documents", lambda rows: put(rows, [0, 1], words=9)),
        {"few_documents_are_short"},
    ),
    "documents are too long": (
        change("documents", lambda rows: put(rows, [0, 1], words=10**6)),
        {"few_documents_are_long"},
    ),
    "a document is in another language": (
        change("documents", lambda rows: put(rows, [3], language="fr")),
        {"documents_are_in_the_corpus_language"},
    ),
    "a document repeats another": (
        change("documents", lambda rows: put(rows, [3], text_sha256=rows[4]["text_sha256"])),
        {"documents_differ_from_each_other"},
    ),
    "a drop has no reason": (
        change("document_drops", lambda rows: put(rows, [0], reason=None)),
        {"drops_have_reasons"},
    ),
}

STUDY_DEFECTS = {
    "a generation was lost": (
        change("generations", lambda rows: rows[1:]),
        {"row_balances_add_up", "layouts_hold_every_generation"},
    ),
    "a generation has another's key": (
        change("generations", lambda rows: put(rows, [1], g=0)),
        {"every_row_has_its_own_key"},
    ),
    "tokens are text": (
        change("generations", lambda rows: put(rows, range(18), tokens="75")),
        {"tables_have_their_columns"},
    ),
    "a generation is of a validation document": (
        change("generations", lambda rows: put(rows, [0], document_id=_validation_id())),
        {"generations_are_not_of_validation_documents"},
    ),
    "a generation is of an unknown document": (
        change("generations", lambda rows: put(rows, [0], document_id="0" * 16)),
        {"generations_are_planned"},
    ),
    "a generation is empty": (change("generations", lambda rows: put(rows, [0], text="")), {"generations_have_text"}),
    "generations were cut off": (
        change("generations", lambda rows: put(rows, [0, 1], truncated=True)),
        {"generations_are_rarely_cut_off"},
    ),
    "a generation repeats another in capitals": (
        change("generations", lambda rows: put(rows, [0], text="  " + rows[1]["text"].upper().replace(" ", "\n"))),
        {"generations_rarely_repeat_each_other"},
    ),
    "generations have no faithfulness": (
        change("generations", lambda rows: put(rows, range(18), faithfulness=None)),
        {"generations_are_faithful_to_their_source"},
    ),
    "a generation is dropped twice": (
        change("generation_drops", lambda rows: rows * 2),
        {"every_row_has_its_own_key", "row_balances_add_up"},
    ),
    "generations are dropped that nobody counted": (
        change("generation_drops", lambda rows: [{**rows[0], "g": g} for g in range(3)]),
        {"row_balances_add_up", "generations_are_rarely_dropped"},
    ),
    "defects are no list": (
        change("generations", lambda rows: put(rows, range(18), defects="preamble")),
        {"tables_have_their_columns"},
    ),
    "generations copy their source": (
        change("generations", lambda rows: put(rows, [0, 2, 4], text=lambda r: _source(r) + " And so on, and on.")),
        {"generations_are_rarely_copies_of_their_source"},
    ),
    "a megadoc holds a run of a validation document": (
        change("megadoc_parts", lambda rows: put(rows, [9], text=lambda r: r["text"] + " " + validation_words(13))),
        {"megadocs_share_no_text_with_validation"},
    ),
    "the run is disguised by capitals and commas": (
        change(
            "megadoc_parts",
            lambda rows: put(rows, [9], text=lambda r: r["text"] + validation_words(13).title().replace(" ", ",\n")),
        ),
        {"megadocs_share_no_text_with_validation"},
    ),
    "a megadoc part belongs to a validation document": (
        change("megadoc_parts", lambda rows: put(rows, [9], document_id=_validation_id())),
        {"megadocs_hold_no_validation_document"},
    ),
    "a megadoc part belongs to nobody": (
        change("megadoc_parts", lambda rows: put(rows, [9], document_id="0" * 16)),
        {"megadocs_are_of_training_documents"},
    ),
    "a megadoc counts its tokens wrong": (
        change("megadocs", lambda rows: put(rows, [9], real_tokens=0)),
        {"megadocs_equal_their_parts"},
    ),
    "a layout is absent": (
        lambda table, rows: [r for r in rows if r["layout"] != "stitched"] if table.startswith("megadoc") else rows,
        {
            "layouts_have_megadocs",
            "layouts_hold_every_generation",
            "layouts_hold_every_document",
            "streams_hold_the_tokens_the_mix_states",
        },
    ),
    "a mix has no real stream": (
        change("mixes", without_its_real_stream),
        {"recipes_have_real_text", "mixes_have_enough_real_text", "origins_are_drawn_apart"},
    ),
    "a mix is absent": (
        change("mixes", lambda rows: rows[:1]),
        {"recipes_have_real_text", "mixes_have_enough_real_text"},
    ),
    "a stream goes unused": (
        change("mixes", lambda rows: put(rows, [1, 2], stream_sequences=lambda r: 224 * (r["layout"] == "real"))),
        {"streams_are_used"},
    ),
    "a mix states too many tokens": (
        change("mixes", lambda rows: put(rows, [2], stream_tokens=10**6)),
        {"streams_hold_the_tokens_the_mix_states"},
    ),
}


def _validation_id() -> str:
    return VALIDATION[0]["document_id"]


def _source(generation: dict) -> str:
    return next(d["text"] for d in TRAIN if d["document_id"] == generation["document_id"])
