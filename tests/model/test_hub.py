"""Models as folders and repositories: huggingface_hub's own upload and download, against a server on this machine."""

import base64
import copy
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import torch
from huggingface_hub import ModelCard

import swinv2
from swinv2 import storage
from swinv2.info import ModelInfo
from swinv2.model.hub import variant_of
from swinv2.preprocessing import Preprocessing

SMALL = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "num_classes": 3, "window_size": 4, "image_size": 64}
INFO = ModelInfo(
    classes=("cat", "dog", "a|b"),
    preprocessing=Preprocessing(size=(32, 48), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), crop_fraction=0.9),
    extra={"licence": "mit", "weights": "some_weights"},
)


@pytest.fixture
def model(randomise):
    model = randomise(swinv2.create_model("swinv2_nano", **SMALL)).eval()
    model.info = INFO
    return model


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_rebuilds_the_model_exactly(model, tmp_path):
    model.save_pretrained(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["README.md", "config.json", "model.safetensors"]
    for again in (
        swinv2.SwinTransformer.from_pretrained(tmp_path / "out"),
        swinv2.SwinTransformer.from_pretrained(str(tmp_path / "out" / "model.safetensors")),
        swinv2.load(tmp_path / "out"),
    ):
        assert same_weights(again, model)
        assert again.config == model.config
        assert again.info == model.info
        assert not again.training
    with open(tmp_path / "out" / "config.json") as file:
        assert swinv2.SwinConfig.from_dict(json.load(file)) == model.config
    assert storage.read(tmp_path / "out" / "model.safetensors").info == INFO


def test_saving_keeps_what_changed_after_construction(model, tmp_path):
    """The mixin remembers the configuration a model was built with; a new head changes it."""
    model.reset_head(7)
    model.save_pretrained(tmp_path)
    again = swinv2.SwinTransformer.from_pretrained(tmp_path)
    assert again.config.num_classes == again.head.out_features == 7
    with open(tmp_path / "config.json") as file:
        assert json.load(file)["num_classes"] == 7


def test_a_folder_takes_overrides(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = swinv2.SwinTransformer.from_pretrained(tmp_path, window_size=6, num_classes=0)
    assert again.config.window_size == ((6, 6), (6, 6))
    assert again.config.trained_window_size == model.config.trained_window_size
    assert again.config.num_classes == 0
    with pytest.raises(ValueError, match="no field 'wimdow'"):
        swinv2.SwinTransformer.from_pretrained(tmp_path, wimdow=6)


def test_saving_again_replaces_the_weights_and_keeps_the_card(model, tmp_path, randomise):
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("my own words")
    randomise(model, seed=5).save_pretrained(tmp_path)
    assert same_weights(swinv2.SwinTransformer.from_pretrained(tmp_path), model)
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_other_dtypes_and_compiled_parts(model, tmp_path):
    model = model.bfloat16()
    names = list(model.state_dict())
    model.stages[0] = torch.compile(model.stages[0])
    model.save_pretrained(tmp_path)
    again = swinv2.load(tmp_path, dtype="keep")
    assert list(again.state_dict()) == names
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}


def test_the_card_says_what_is_known(model, tmp_path):
    model.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit"
    assert card.data.library_name == "swinv2"
    assert card.data.pipeline_tag == "image-classification"
    facts = dict(re.findall(r"^\| (.+?) \| (.*) \|$", card.text, re.M))
    assert facts["parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"
    assert facts["windows"] == "4x4, 4x4"
    assert facts["trained windows"] == "4x4, 4x4"
    assert facts["classes"] == "3: cat, dog, a\\|b"
    assert "32x48 / 0.9 (bicubic)" in facts["preprocessing"]
    assert "mean 0.5 0.4 0.3" in facts["preprocessing"]
    assert facts["licence"] == "mit"
    assert facts["origin"] == "swinv2, some_weights"


def test_a_card_of_a_model_that_says_nothing_is_whole(tmp_path):
    backbone = swinv2.create_model("swinv2_nano", num_classes=0)
    backbone.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.strip().startswith("# swinv2_nano")
    assert card.data.license is None
    assert card.data.pipeline_tag == "image-feature-extraction"
    facts = dict(re.findall(r"^\| (.+?) \| (.*) \|$", card.text, re.M))
    assert (facts["classes"], facts["licence"], facts["preprocessing"]) == ("none", "not stated", "not stated")
    assert {"Undefined", "None"}.isdisjoint(card.text.split())
    assert str(backbone.generate_model_card(licence="apache-2.0").data.license) == "apache-2.0"


@pytest.mark.parametrize("name", ["swinv2_nano", "swinv2_video_nano"])
def test_the_cards_example_runs(name, tmp_path, monkeypatch, capsys):
    swinv2.create_model(name, num_classes=2, depths=(1, 1), num_heads=(1, 2), embed_dim=8).save_pretrained(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", (tmp_path / "README.md").read_text(), re.S | re.M)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([1, 2])\n"


def test_variants_are_recognised_by_their_architecture():
    config = swinv2.VARIANTS["swinv2_base"]
    assert variant_of(config) == "swinv2_base"
    with torch.device("meta"):
        other = swinv2.create_model("swin_base", num_classes=3, window_size=12, in_channels=1, drop_path_rate=0.3)
    assert variant_of(other.config) == "swin_base"
    assert variant_of(swinv2.SwinConfig(embed_dim=97, num_heads=(1, 1, 1, 1))) is None


def test_the_mixin_leaves_the_module_as_it_was(model):
    assert not [name for name in model.state_dict() if "hub" in name]
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_weights(again, model)
        assert (again.config, again.info) == (model.config, model.info)
        again.head.weight.data.zero_()
        assert model.head.weight.any()
    x = torch.randn(1, 3, 40, 40)
    assert torch.allclose(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))


def test_what_is_no_model_of_ours_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds neither"):
        swinv2.SwinTransformer.from_pretrained(tmp_path)
    for missing in (tmp_path / "missing", "./missing", "missing"):
        with pytest.raises(ValueError, match="no weights file"):
            swinv2.SwinTransformer.from_pretrained(missing)


class Hub(BaseHTTPRequestHandler):
    """Just enough of the hub: make a repository, take a commit, give its files back."""

    files: ClassVar[dict[str, bytes]] = {}

    @property
    def address(self):
        return f"http://{self.headers['Host']}"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            self.answer({"url": f"{self.address}/me/small", "id": "me/small"})
        elif self.path == "/api/models/me/small/preupload/main":
            wanted = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self.answer({"files": wanted})
        elif self.path == "/api/models/me/small/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {"success": True, "commitUrl": f"{self.address}/me/small/commit/{'1' * 40}", "commitOid": "1" * 40}
            )
        else:  # checks of the card's header
            self.answer({"errors": [], "warnings": []})

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        if self.path.startswith("/api/models/me/small"):
            self.answer({"id": "me/small", "sha": "1" * 40, "siblings": [], "private": False})
            return
        data = self.files.get(self.path.removeprefix("/me/small/resolve/main/"))
        self.send_response(200 if data else 404)
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("ETag", f'"{len(data or b"")}"')
        self.send_header("X-Error-Code", "" if data else "EntryNotFound")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if body and data:
            self.wfile.write(data)

    def answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


ROUND_TRIP = """
import sys, torch, swinv2
model = swinv2.SwinTransformer.from_pretrained(sys.argv[1])
url = model.push_to_hub("me/small", token="hf_none", model_card_kwargs={"licence": "apache-2.0"})
again = swinv2.SwinTransformer.from_pretrained("me/small", token=False)
weights, others = model.state_dict(), again.state_dict()
assert all(torch.equal(weights[name], others[name]) for name in weights) and weights.keys() == others.keys()
assert (again.config, again.info) == (model.config, model.info)
print(url)
"""


def test_a_repository_rebuilds_the_model_exactly(model, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    model.save_pretrained(tmp_path / "local")
    settings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, tmp_path / "local"], env=settings, capture_output=True, text=True, timeout=60
    )
    server.shutdown()
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{endpoint}/me/small/commit/{'1' * 40}"
    assert sorted(Hub.files) == ["README.md", "config.json", "model.safetensors"]
    card = Hub.files["README.md"].decode()
    assert 'from_pretrained("me/small")' in card
    assert "license: apache-2.0" in card
