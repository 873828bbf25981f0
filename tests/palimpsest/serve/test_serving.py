"""What the command line says of servers."""

from __future__ import annotations

import pytest

from palimpsest import cli, serve


def said(capsys, *command: str) -> list[str]:
    assert cli.main(["serve", *command]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("action", ["status", "logs"])
def test_where_there_is_nothing_to_show_it_says_what_is_there(make, here, capsys, action):
    assert said(capsys, action) == ["no server is running"]
    assert said(capsys, action, "nosuch") == ["no server of 'nosuch'; running: none"]
    serve.ensure(make(), "tiny", here)
    assert said(capsys, action, "nosuch") == ["no server of 'nosuch'; running: small.tiny"]
    assert len(said(capsys, action)) > 1


@pytest.mark.parametrize("lines", ["-3", "0", "many"])
def test_a_number_of_lines_that_is_none_is_refused(here, capsys, lines):
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", "logs", "small", "--lines", lines])
    assert end.value.code == 2
    assert "--lines" in capsys.readouterr().err


def test_a_server_that_failed_is_told_in_a_line_until_its_study_stops_it(make, here, capsys):
    for name in ("small", "other"):
        with pytest.raises(ConnectionError, match="out of memory"):
            serve.ensure(make(name, behaviour="crash"), "tiny", here)
    [one] = serve.status()
    title, error = said(capsys, "status", "small")
    assert title == f"other.tiny, small.tiny: failed, {one.model}  [{one.folder}]"
    assert error == (
        "  the server ended with status 1 before it was ready: CUDA out of memory: the GPU is taken; "
        f"its log: {one.folder}/server-0.log"
    )
    assert "CUDA out of memory: the GPU is taken" in said(capsys, "logs", "small", "--lines", "5")
    said(capsys, "stop", "small")
    assert said(capsys, "status", "small") == ["no server of 'small'; running: none"]
    assert said(capsys, "status")[0].startswith("other.tiny: failed, ")
    said(capsys, "stop")
    assert said(capsys, "status") == ["no server is running"]


def test_a_failure_is_forgotten_when_its_study_asks_again(make, here, model, capsys):
    study = make(behaviour="until_broken")
    (model / "broken").touch()
    with pytest.raises(ConnectionError, match="out of memory"):
        serve.ensure(study, "tiny", here)
    (model / "broken").unlink()
    serve.ensure(study, "tiny", here)
    assert serve.status()[0].failed == []
    assert said(capsys, "status")[0].startswith("small.tiny: ready, ")
