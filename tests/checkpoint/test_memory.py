"""Weights are mapped from their file and models built without memory of their own, so that they are there once."""

import subprocess
import sys

import pytest

import swinv2

# Prints the highest anonymous memory during the load, above what the interpreter had before it, in bytes.
MEASURE = """
import sys, threading, time
import torch, swinv2
swinv2.load  # import

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

before, highest, done = anonymous(), 0, threading.Event()

def watch():
    global highest
    while not done.is_set():
        highest = max(highest, anonymous())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
model = swinv2.load(sys.argv[1], trained_window_size=8)
done.set()
thread.join()
print(max(highest, anonymous()) - before)
x = torch.randn(1, 3, 64, 64)
with torch.inference_mode():
    assert model(x).isfinite().all()
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize(
    ("to", "suffix"),
    [("timm", ".pth"), ("timm", ".safetensors"), ("transformers", ".pth"), ("mmpretrain", ".pth")],
)
def test_a_gigabyte_is_in_memory_once(tmp_path, to, suffix):
    model = swinv2.create_model("swinv2_large", embed_dim=224, num_heads=(7, 14, 28, 56))
    path = tmp_path / f"large{suffix}"
    swinv2.save(model, path, to=to)
    del model
    size = path.stat().st_size
    assert size > 1e9
    run = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    extra = int(run.stdout)
    print(f"{to}{suffix}: {extra / size:.3f} of {size / 1e9:.2f} GB")
    assert extra < 1.2 * size
