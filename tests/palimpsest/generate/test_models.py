from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError, Server
from palimpsest.generate import models
from palimpsest.generate.models import model_source
from palimpsest.lake import REPOSITORY, Corrupt, Facts, NotPublished

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_model(folder: Path, **files: str) -> Path:
    """A folder as an export writes it, with bytes in place of weights: nothing here loads them."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    tok.train(["The tide rises twice a day."], 300).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<|endoftext|>"}')
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model")


def server(model: object, **changes: object) -> Server:
    return Server.model_validate({"model": str(model), **changes})


def publish_run(lake, folder: Path):
    def write(directory: Path) -> Facts:
        shutil.copytree(folder, directory / "model")
        (directory / "evaluation.json").write_text("{}")
        return Facts()

    return lake.publish("studies/small/runs/real-s0", write)


def test_a_folder_is_known_by_its_content_wherever_it_lies(lake, folder, tmp_path):
    found = model_source(server(folder), lake)
    assert found.identity.startswith("weights:") and found.served_name == f"palimpsest-{found.identity[8:]}"
    assert found.path == folder and not found.has_chat_template
    assert found.tokenizer.token_to_id(tok.BOUNDARY) == 0
    moved = model_source(server(shutil.copytree(folder, tmp_path / "elsewhere")), lake)
    assert moved.identity == found.identity and moved.path != found.path


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_other_content_is_another_model(lake, folder, name):
    before = model_source(server(folder), lake).identity
    with (folder / name).open("a") as file:
        file.write(" ")
    assert model_source(server(folder), lake).identity != before


def test_notes_beside_a_model_are_not_the_model(lake, folder):
    before = model_source(server(folder), lake).identity
    (folder / "README.md").write_text("Trained on a Saturday.")
    assert model_source(server(folder), lake).identity == before


def test_a_run_is_the_same_model_as_its_exported_folder(lake, folder):
    publish_run(lake, folder)
    found = model_source(server("run:small/real-s0"), lake)
    assert found.identity == model_source(server(folder), lake).identity
    assert found.path.name == "model" and found.tokenizer.get_vocab_size() > 0


def test_a_damaged_run_is_told(lake, folder):
    published = publish_run(lake, folder)
    (published.path / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(Corrupt, match=r"model/model.safetensors no longer matches its manifest"):
        model_source(server("run:small/real-s0"), lake)
    (published.path / "model" / "model.safetensors").unlink()
    with pytest.raises(Corrupt, match=r"model/model.safetensors no longer matches its manifest"):
        model_source(server("run:small/real-s0"), lake)


def test_a_run_that_was_never_trained_is_told(lake):
    with pytest.raises(NotPublished, match="studies/small/runs/real-s0 has never been published"):
        model_source(server("run:small/real-s0"), lake)


def test_weights_are_read_once(lake, folder, monkeypatch):
    first = model_source(server(folder), lake).identity
    read = []
    monkeypatch.setattr(models, "digest_file", lambda path: read.append(path.name) or "0" * 64)
    assert model_source(server(folder), lake).identity == first
    assert read == []
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert model_source(server(folder), lake).identity != first
    assert read == ["model.safetensors"]


@pytest.mark.parametrize(
    ("missing", "said"), [("config.json", "holds no model"), ("model.safetensors", "holds no model")]
)
def test_a_folder_without_a_model_is_told(lake, folder, missing, said):
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=said):
        model_source(server(folder), lake)
    with pytest.raises(ConfigError, match=said):
        model_source(server("/nowhere/at/all"), lake)


def test_more_context_than_the_model_has_is_refused_before_anything_starts(lake, folder):
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 512}')
    assert model_source(server(folder, context=512), lake).path == folder
    with pytest.raises(ConfigError, match="reads 512 tokens at most.* context of 8192; write 'context: 512'"):
        model_source(server(folder), lake)
    longer = server(folder, context=1024, arguments={"rope-scaling": '{"factor": 2}'})
    assert model_source(longer, lake).path == folder, "its arguments may make it read more"


def test_a_tokenizer_of_ones_own_is_counted_with(lake, folder, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    tok.train(["Bread wants time, not force."], 270).save(str(own / "tokenizer.json"))
    for named in (own, own / "tokenizer.json"):
        assert model_source(server(folder, tokenizer=str(named)), lake).tokenizer.get_vocab_size() <= 270
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer.json to plan with; name one under servers"):
        _ = model_source(server(folder), lake).tokenizer
    with pytest.raises(ConfigError, match=r"no file /nowhere/tokenizer.json; correct servers.<name>.tokenizer"):
        model_source(server(folder, tokenizer="/nowhere/tokenizer.json"), lake)


@pytest.mark.parametrize(
    "files", [{"chat_template__jinja": "x"}, {"tokenizer_config__json": json.dumps({"chat_template": "x"})}]
)
def test_a_chat_template_is_found(lake, tmp_path, files):
    assert model_source(server(write_model(tmp_path / "chat", **files)), lake).has_chat_template


def test_a_chat_template_may_be_an_argument_and_makes_another_model(lake, folder, tmp_path):
    template = tmp_path / "template.jinja"
    identities = {model_source(server(folder), lake).identity}
    for words in ("a", "b"):
        template.write_text(words)
        found = model_source(server(folder, arguments={"chat-template": str(template)}), lake)
        assert found.has_chat_template
        identities.add(found.identity)
    assert len(identities) == 3


def test_arguments_that_change_what_a_model_writes_make_another_model_of_it(lake, folder):
    plain = model_source(server(folder), lake)
    fast = model_source(server(folder, arguments={"gpu-memory-utilization": 0.5, "max-num-seqs": 8}), lake)
    quantized = model_source(server(folder, arguments={"--quantization": "fp8"}), lake)
    assert fast.identity == plain.identity
    assert quantized.identity == f"{plain.identity}+quantization=fp8"


@pytest.fixture
def hub(tmp_path):
    """A server of the hub's file routes: one repository at one commit; what it was asked for."""
    content = write_model(tmp_path / "hub", tokenizer_config__json='{"chat_template": "x"}')
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            asked.append(self.path)
            wanted = f"/org/name/resolve/{COMMIT}/"
            file = content / self.path.removeprefix(wanted)
            if not self.path.startswith(wanted):
                return self.refuse("RepoNotFound" if "/org/name/" not in self.path else "RevisionNotFound")
            if not file.is_file():
                return self.refuse("EntryNotFound")
            data = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()


READ = """
import json, sys
from palimpsest.config import Server
from palimpsest.generate.models import model_source
from palimpsest.lake import Lake

source = model_source(Server.model_validate(json.loads(sys.argv[1])), Lake(sys.argv[2]))
try:
    size = source.tokenizer.get_vocab_size()
    print(json.dumps([source.identity, source.served_name, source.has_chat_template, size]))
except (ConnectionError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def read_from(hub: str, home: Path, offline: str = "0", **settings: object) -> subprocess.CompletedProcess:
    """In a process of its own: the hub's library reads its settings once."""
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {"PYTHONPATH": str(REPOSITORY / "plugins"), "HF_ENDPOINT": hub, "HF_HOME": str(home)}
    environment |= {"HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
    content = json.dumps({"model": "org/name", "revision": COMMIT, **settings})
    patient = "import time; time.sleep = lambda seconds: None"  # the library tries six times, in half a minute
    command = [sys.executable, "-c", f"{patient}\n{READ}", content, str(home / "lake")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_hub_model_is_known_by_its_commit_and_counted_with_its_own_tokenizer(hub, state, tmp_path):
    url, asked = hub
    done = read_from(url, tmp_path)
    assert done.returncode == 0, done.stderr
    identity, name, chat, size = json.loads(done.stdout)
    assert (identity, name, chat) == (f"org/name@{COMMIT}", "org/name", True) and size > 256
    assert not any("safetensors" in path for path in asked)
    calls = len(asked)
    assert read_from(url, tmp_path, offline="1").stdout == done.stdout
    assert len(asked) == calls


def test_without_the_hub_it_is_said_what_to_do(hub, state, tmp_path):
    url, _ = hub
    offline = read_from(url, tmp_path / "a", offline="1")
    assert "ConfigError: " in offline.stderr and "HF_HUB_OFFLINE is set" in offline.stderr
    assert "servers.<name>.tokenizer" in offline.stderr
    absent = read_from(url, tmp_path / "b", model="org/other")
    assert "ConfigError: the hub has no 'org/other' at that commit" in absent.stderr
    moved = read_from(url, tmp_path / "c", revision="f" * 40)
    assert "ConfigError: the hub has no 'org/name' at that commit" in moved.stderr
    down = read_from("http://127.0.0.1:9", tmp_path / "d")
    assert "ConnectionError: the hub cannot be reached" in down.stderr


def test_an_endpoint_needs_no_hub_where_its_tokenizer_lies_here(lake, folder):
    settings = {"revision": COMMIT, "endpoints": ["http://host:8000"], "tokenizer": str(folder / "tokenizer.json")}
    found = model_source(server("org/name", **settings), lake)
    assert found.path is None and found.tokenizer.get_vocab_size() > 256
    assert not found.has_chat_template  # tokenizer_config.json lies beside it and has none
    (folder / "tokenizer_config.json").unlink()
    assert model_source(server("org/name", **settings), lake).has_chat_template, "not known here: the server will say"
