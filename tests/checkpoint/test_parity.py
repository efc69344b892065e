"""The cases of scripts/parity.py with small models, and the page that it wrote."""

import functools
import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import swinv2

for library in ("timm", "torchvision", "transformers"):
    pytest.importorskip(library)
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
parity = importlib.import_module("parity")
peers = importlib.import_module("peers")
plain = importlib.import_module("plain")

pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def figures(case):
    return parity.measure(case, small=True)


@pytest.mark.parametrize("case", parity.CASES, ids=str)
def test_logits_are_the_references(case):
    found = figures(case)
    assert found.spread > 0.1, "a degenerate model would agree with anything"
    assert found.fp32 <= 2e-6
    assert found.changed == ()
    assert 1e-4 < found.bf16 < 0.03, "bfloat16 has 8 bits"


def test_bfloat16_costs_us_no_more_than_the_references():
    ours = sum(figures(case).bf16 for case in parity.CASES)
    theirs = sum(figures(case).reference_bf16 for case in parity.CASES)
    assert ours <= 1.2 * theirs


@pytest.mark.parametrize("version", [1, 2])
def test_no_parameter_can_be_mistaken_unseen(version):
    """What parity is worth: with the values of any one parameter moved by one place the logits are others."""
    peer = peers.timm(peers.Spec(version=version))
    ours = swinv2.load(peer.state, **peer.untold)
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = ours(images)
        for name, parameter in ours.named_parameters():
            if parameter.numel() > 1:
                true = parameter.clone()
                parameter.copy_(true.flatten().roll(1).view_as(true))
                assert parity.relative_error(ours(images), want) > 1e-4, name
                parameter.copy_(true)
        assert torch.equal(ours(images), want)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["microsoft", "timm", "transformers", "torchvision", "mmpretrain"])
def test_gradients_are_the_references(name, version):
    peer = parity.REFERENCES[name].build(spec := peers.Spec(version=version))
    model, images = peer.model.double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)

    def spelled(tensors):
        return plain.mmpretrain_names(tensors, version) if name == "mmpretrain" else tensors

    ours = swinv2.load(spelled(model.state_dict()), dtype="keep", **spec.untold)
    for side in (peer.run, ours):
        side(images).square().sum().backward()
    gradients = spelled({name: parameter.grad for name, parameter in model.named_parameters()})
    want = swinv2.convert(gradients, to="swinv2", **spec.untold)
    for name, parameter in ours.named_parameters():
        assert (parameter.grad - want[name]).norm() <= 1e-10 * want[name].norm(), name


def test_the_page_is_of_these_cases():
    """Its figures meet the target, and all else on it is what the command would write now."""
    text = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    cells = [line.strip("| ").split(" | ") for line in text.partition("\n\n## ")[0].splitlines() if line[:2] == "| "]
    rows = cells[2:]
    assert [tuple(row[:6]) for row in rows] == [case.labels(small=False) for case in parity.CASES]
    assert all(float(row[6]) <= parity.TARGET and row[9] == "exact" for row in rows)

    def without_versions(page):
        return re.sub(r"\b(torch|timm|transformers|torchvision) \d[\w.+]*", "", page)

    assert without_versions(parity.document(rows)) == without_versions(text)
