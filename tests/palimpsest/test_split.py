from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError
from palimpsest.lake import Facts, LakeError
from palimpsest.split import split
from tests.palimpsest.conftest import document


def urls(published, name):
    return set(pq.read_table(published.file(f"{name}.parquet"))["url"].to_pylist())


def test_every_document_is_training_or_validation_and_never_both(lake, study, documents):
    found = split(study, lake, documents=[documents])
    assert found.manifest["rows"] == {"input": 24, "kept": 20, "dropped": {"held_out": 4}, "quarantined": {}}
    assert len(urls(found, "train")) == 20
    assert urls(found, "validation") == {f"https://site{n % 3}.example/page/{n}" for n in (0, 5, 6, 11)}


def test_the_tokenizer_learns_from_training_documents_only(lake, make_study, documents):
    found = split(make_study(), lake, documents=[documents])
    texts = pq.read_table(found.file("train.parquet"))["text"].to_pylist()
    assert found.file("tokenizer.json").read_text() == tok.train(texts, 512).to_str(pretty=True)


def test_token_counts_are_those_of_the_tokenizer(lake, study, documents):
    found = split(study, lake, documents=[documents])
    tokenizer = tok.load(found.file("tokenizer.json"))
    for name in ("train", "validation"):
        table = pq.read_table(found.file(f"{name}.parquet"))
        assert table["tokens"].to_pylist() == [len(tokenizer.encode(t).ids) for t in table["text"].to_pylist()]


def test_short_and_long_follow_the_stated_lengths(lake, study, documents):
    rows = pq.read_table(split(study, lake, documents=[documents]).file("validation.parquet")).to_pylist()
    assert [r["is_short"] for r in rows] == [r["words"] <= 50 for r in rows]
    assert [r["is_long"] for r in rows] == [r["words"] >= 60 for r in rows]


def test_a_share_by_hash_stays_the_same_when_the_corpus_grows(lake, make_study, documents):
    half = {"rule": "hash_share", "share": 0.5, "short_max_words": 50, "long_min_words": 60}
    more = {**half, "share": 0.7}
    smaller = urls(split(make_study(validation=half), lake, documents=[documents]), "validation")
    larger = urls(split(make_study(validation=more), lake, documents=[documents]), "validation")
    assert 0 < len(smaller) < len(larger) < 24
    assert smaller < larger


def test_sites_are_held_out_whole(lake, make_study, documents):
    rule = {"rule": "sites", "sites": ["site1.example"], "short_max_words": 50, "long_min_words": 60}
    found = split(make_study(validation=rule), lake, documents=[documents])
    assert all("site1.example" in url for url in urls(found, "validation"))
    assert not any("site1.example" in url for url in urls(found, "train"))


def test_a_rule_that_holds_out_nothing_or_everything_is_refused(lake, make_study, documents):
    sites = [f"site{n}.example" for n in range(3)]
    for chosen, lacking in ((["elsewhere.example"], "validation"), (sites, "training")):
        rule = {"rule": "sites", "sites": chosen}
        with pytest.raises(LakeError, match=f"validation rule 'sites' leaves no {lacking} document of 24"):
            split(make_study(validation=rule), lake, documents=[documents])


def test_a_missing_list_is_named(lake, make_study, documents):
    rule = {"rule": "urls", "urls_file": "/nowhere/list.txt"}
    with pytest.raises(ConfigError, match=r"validation.urls_file: no file /nowhere/list.txt"):
        split(make_study(validation=rule), lake, documents=[documents])


def test_a_url_that_no_document_has_is_told(lake, make_study, documents, tmp_path):
    listed = tmp_path / "more.txt"
    listed.write_text("https://site0.example/page/0\nhttps://gone.example/\n")
    found = split(make_study(validation={"rule": "urls", "urls_file": str(listed)}), lake, documents=[documents])
    assert found.extra["validation_urls_not_in_corpus"] == ["https://gone.example/"]


def test_one_document_in_two_corpora_is_refused(lake, study, documents):
    with pytest.raises(LakeError, match="is in more than one of the corpora"):
        split(study, lake, documents=[documents, documents])


def test_a_tokenizer_file_is_used_as_it_is(lake, make_study, documents, tmp_path):
    file = tmp_path / "own.json"
    tok.train(["aaa bbb aaa bbb"], 512).save(str(file))
    found = split(make_study(tokenizer={"path": str(file)}), lake, documents=[documents])
    assert found.file("tokenizer.json").read_bytes() == file.read_bytes()


def test_a_tokenizer_may_call_the_end_of_a_document_otherwise(lake, make_study, documents, tmp_path):
    file = tmp_path / "own.json"
    trained = tok.train(["some words of a page"], 400)
    trained.save(str(file))
    file.write_text(file.read_text().replace(tok.BOUNDARY, "<|end_of_text|>"))
    with pytest.raises(LakeError, match="own.json: has no token </s>; correct tokenizer.end"):
        split(make_study(tokenizer={"path": str(file), "end": "</s>"}), lake, documents=[documents])
    found = split(make_study(tokenizer={"path": str(file), "end": "<|end_of_text|>"}), lake, documents=[documents])
    held = tok.load(found.file("tokenizer.json"))
    assert held.get_vocab() == trained.get_vocab() and held.token_to_id(tok.BOUNDARY) == 0
    assert held.encode("a page <|end_of_text|>").ids == trained.encode("a page <|end_of_text|>").ids
    trained.save(str(file))
    with pytest.raises(LakeError, match="own.json: has a token .* itself; take tokenizer.end out"):
        split(make_study(tokenizer={"path": str(file), "end": "page"}), lake, documents=[documents])
    with pytest.raises(ValueError, match="'end' names a token of the tokenizer in 'path' or 'hub', and there is none"):
        make_study(tokenizer={"end": "</s>"})


def test_a_tokenizer_of_the_hub_is_that_of_one_commit(lake, make_study, documents, tmp_path, monkeypatch):
    """From the hub's own cache, as a machine without network has it; nothing else is in it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commits = ["a" * 40, "b" * 40]
    texts = ("some words of a page", "some words of a page and many others beside them")
    for text, commit in zip(texts, commits, strict=True):
        folder = tmp_path / "models--org--name" / "snapshots" / commit
        folder.mkdir(parents=True)
        trained = tok.train([text], 512).to_str().replace(tok.BOUNDARY, "<|end_of_text|>")
        (folder / "tokenizer.json").write_text(trained)

    def published(**named):
        named |= {"hub": "org/name", "end": "<|end_of_text|>"}
        return split(make_study(tokenizer=named), lake, documents=[documents])

    first, second = (published(revision=commit) for commit in commits)
    sizes = [tok.load(found.file("tokenizer.json")).get_vocab_size() for found in (first, second)]
    assert sizes[0] < sizes[1] and first.digest != second.digest
    assert published(revision=commits[0]).uri == first.uri
    with pytest.raises(ConfigError, match=r"HF_HUB_OFFLINE is set; unset it; or name a local copy as tokenizer\.path"):
        published(revision="c" * 40)
    absent = tmp_path / "models--org--name" / ".no_exist" / ("d" * 40)
    absent.mkdir(parents=True)
    (absent / "tokenizer.json").touch()
    with pytest.raises(ConfigError, match=r"tokenizer\.hub: 'org/name' has no tokenizer\.json at dddddddddddd"):
        published(revision="d" * 40)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"hub": "org/name"}, "'hub' and 'revision' go together"),
        ({"revision": "a" * 40}, "'hub' and 'revision' go together"),
        ({"hub": "org/name", "revision": "main"}, "pattern"),
        ({"hub": "org/name", "revision": "a" * 40, "path": "own.json"}, "'path' and 'hub' both name a tokenizer"),
    ],
    ids=["no revision", "no hub", "a branch", "both"],
)
def test_a_tokenizer_of_the_hub_is_named_in_full(make_study, named, reason):
    with pytest.raises(ValueError, match=reason):
        make_study(tokenizer=named)


def test_a_tokenizer_without_boundary_or_not_a_tokenizer_is_refused(lake, make_study, documents, tmp_path):
    file = tmp_path / "own.json"
    file.write_text("{}")
    with pytest.raises(LakeError, match=r"own.json|tokenizer.json.*not a tokenizer"):
        split(make_study(tokenizer={"path": str(file)}), lake, documents=[documents])
    with pytest.raises(ConfigError, match=r"tokenizer.path: no file"):
        split(make_study(tokenizer={"path": "/nowhere.json"}), lake, documents=[documents])


def test_a_reserve_is_marked_and_the_tokenizer_never_sees_it(lake, make_study, documents):
    found = split(make_study(real_share=0.35), lake, documents=[documents])
    rows = pq.read_table(found.file("train.parquet")).to_pylist()
    used = [row for row in rows if not row["is_reserve"]]
    assert (len(used), len(rows)) == (7, 20)
    assert found.extra["reserve_documents"] == 13
    learned = tok.train([row["text"] for row in used], 512)
    assert found.file("tokenizer.json").read_text() == learned.to_str(pretty=True)
    larger = split(make_study(real_share=0.6), lake, documents=[documents])
    rows = pq.read_table(larger.file("train.parquet")).to_pylist()
    assert {row["url"] for row in used} < {row["url"] for row in rows if not row["is_reserve"]}


def test_another_sampling_seed_draws_as_many_other_documents(lake, make_study, documents):
    drawn = []
    for seed in (0, 1, 2):
        found = split(make_study(real_share=0.35, sampling_seed=seed), lake, documents=[documents])
        rows = pq.read_table(found.file("train.parquet")).to_pylist()
        drawn.append(frozenset(row["url"] for row in rows if not row["is_reserve"]))
    assert [len(urls) for urls in drawn] == [7, 7, 7]
    assert len(set(drawn)) == 3
    with pytest.raises(ValueError, match="sampling_seed draws the documents of 'real_share'"):
        make_study(sampling_seed=1)


def test_training_documents_that_quote_held_out_ones_are_left_out_and_counted(lake, make_study):
    shared = "one Two three four five six seven, eight nine"
    texts = {"held": f"Before. {shared} ten.", "quotes": f"{shared.upper()} and more", "own": "not of this kind " * 9}

    def write(directory):
        same = {**document(0), "words": 9}
        rows = [
            {**same, "document_id": name, "url": f"https://{name}.example/", "site": f"{name}.example", "text": text}
            for name, text in texts.items()
        ]
        pq.write_table(pa.Table.from_pylist(rows), directory / "documents.parquet")
        return Facts()

    documents = lake.publish("corpora/sample/documents", write)
    rule = {"rule": "sites", "sites": ["held.example"], "drop_shared_words": 9}
    found = split(make_study(validation=rule), lake, documents=[documents])
    assert urls(found, "train") == {"https://own.example/"}
    assert found.manifest["rows"]["dropped"] == {"held_out": 1, "shares_held_out_words": 1}
    (drop,) = pq.read_table(found.file("split_drops.parquet")).to_pylist()
    assert (drop["url"], drop["held_out_url"]) == ("https://quotes.example/", "https://held.example/")
    assert drop["shared"] == "one two three four five six seven eight nine"
    longer = split(make_study(validation={**rule, "drop_shared_words": 10}), lake, documents=[documents])
    assert urls(longer, "train") == {"https://own.example/", "https://quotes.example/"}
    both = {**rule, "sites": ["held.example", "own.example"]}
    with pytest.raises(LakeError, match=r"shares 9 words .* raise validation\.drop_shared_words"):
        split(make_study(validation=both), lake, documents=[documents])
