"""Downloads from a server on this machine that speaks the hub's protocol, from a cache, and with nobody there."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from swinv2 import download
from swinv2.download import DownloadError

COMMIT = "c" * 40
FILES = {
    "/org/new/resolve/main/model.safetensors": b"tensors",
    "/org/new/resolve/main/config.json": b"{}",
    "/org/old/resolve/main/pytorch_model.bin": b"pickle",
    "/org/many/resolve/main/folder/one.pth": b"one of many",
    "/org/empty/resolve/main/README.md": b"nothing here",
    "/plain/file.pth": b"from a URL",
}
NOBODY = "http://127.0.0.1:9"


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        data, organisation = FILES.get(self.path), self.path.startswith("/org/")
        self.send_response(200 if data else 404)
        if organisation:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound" if organisation else "RepoNotFound")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if body and data:
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture
def ask(tmp_path):
    """Run expressions of `download` in a fresh interpreter: huggingface_hub reads its settings when imported."""

    def run(endpoint, *expressions, **environment):
        code = (
            "import json, sys\nfrom swinv2 import download\nanswers = []\n"
            "for expression in sys.argv[1:]:\n"
            "    try:\n        answers.append(str(eval(expression)))\n"
            "    except download.DownloadError as error:\n        answers.append(f'refused: {error}')\n"
            "print(json.dumps(answers), 'torch' in sys.modules)"
        )
        settings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), **environment}
        settings.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in environment else None
        result = subprocess.run(
            [sys.executable, "-c", code, *expressions], env=settings, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        answers, _, torch_loaded = result.stdout.strip().rpartition(" ")
        assert torch_loaded == "False"
        return json.loads(answers)

    return run


def test_a_repository_comes_whole_and_then_from_the_cache(server, ask, tmp_path):
    first, old = ask(server, "download.repository('org/new')", "download.repository('org/old')")
    assert sorted(os.listdir(first)) == ["config.json", "model.safetensors"]
    assert os.listdir(old) == ["pytorch_model.bin"]
    assert first.startswith(str(tmp_path))
    with open(f"{first}/model.safetensors", "rb") as file:
        assert file.read() == b"tensors"
    assert ask(server, "download.repository('org/new')", HF_HUB_OFFLINE="1") == [first]
    assert ask(NOBODY, "download.repository('org/new')") == [first], "a cached repository needs no network"


def test_one_file_of_many(server, ask):
    (path,) = ask(server, "download.repository_file('org/many', 'folder/one.pth')")
    with open(path, "rb") as file:
        assert file.read() == b"one of many"


def test_what_is_not_there_is_said_in_one_sentence(server, ask):
    empty, nobody, file = ask(
        server,
        "download.repository('org/empty')",
        "download.repository('nobody/none')",
        "download.repository_file('org/many', 'two.pth')",
    )
    assert empty == "refused: https://huggingface.co/org/empty holds neither model.safetensors nor pytorch_model.bin."
    assert "nobody/none does not exist" in nobody
    assert "two.pth" in file
    assert "does not have it" in file


def test_without_a_network_the_sentence_says_what_to_do(ask):
    repository, file, url = ask(
        "https://huggingface.co",
        "download.repository('org/new')",
        "download.repository_file('org/many', 'folder/one.pth')",
        "download.repository('org/new', revision='v2')",
        HF_HUB_OFFLINE="1",
    )
    for sentence in (repository, file, url):
        assert "the hub cannot be reached" in sentence
        assert "\n" not in sentence
    assert "https://huggingface.co/org/new" in repository
    assert "swinv2.load(FOLDER)" in repository
    assert "https://huggingface.co/org/many/resolve/main/folder/one.pth" in file
    assert "swinv2.load('one.pth')" in file


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_a_url_is_kept_beside_those_of_torch_hub(server, torch_home):
    path = download.url(f"{server}/plain/file.pth")
    assert path == torch_home / "file.pth"
    assert path.read_bytes() == b"from a URL"
    assert download.url(f"{NOBODY}/plain/file.pth") == path, "the same name is the same file"


def test_the_hash_in_a_name_is_checked(server, torch_home, monkeypatch):
    digest = hashlib.sha256(b"good").hexdigest()[:8]
    for name, data in {"good": b"good", "bad": b"evil"}.items():
        monkeypatch.setitem(FILES, f"/plain/{name}-{digest}.pth", data)
    assert download.url(f"{server}/plain/good-{digest}.pth").read_bytes() == b"good"
    with pytest.raises(DownloadError, match="invalid hash"):
        download.url(f"{server}/plain/bad-{digest}.pth")
    assert [path.name for path in torch_home.iterdir()] == [f"good-{digest}.pth"]


@pytest.mark.parametrize("address", [f"{NOBODY}/net.pth", "{server}/plain/missing.pth"])
def test_a_url_that_gives_nothing(server, torch_home, address):
    address = address.format(server=server)
    with pytest.raises(DownloadError, match=r"swinv2\.load\('(net|missing)\.pth'\)") as refusal:
        download.url(address)
    assert address in str(refusal.value)
    assert not list(torch_home.iterdir())


def test_offline_no_url_is_asked(server, torch_home, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        download.url(f"{server}/plain/file.pth")
