from __future__ import annotations

from palimpsest.lake import REPOSITORY
from palimpsest.state import state_dir


def test_the_state_folder_is_the_named_one_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALIMPSEST_STATE", "here")
    assert state_dir() == tmp_path.resolve() / "here"


def test_without_a_name_or_with_an_empty_one_it_lies_in_the_repository(monkeypatch):
    monkeypatch.setenv("PALIMPSEST_STATE", "")
    assert state_dir() == (REPOSITORY / ".palimpsest").resolve()
    monkeypatch.delenv("PALIMPSEST_STATE")
    assert state_dir() == (REPOSITORY / ".palimpsest").resolve()
