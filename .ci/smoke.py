"""Use the installed package as a user would, beside files named like our data folders."""

import sys
from pathlib import Path

import zoo

assert "torch" not in sys.modules, "import zoo brought torch"
assert "site-packages" in zoo.__file__, zoo.__file__
assert "medvit2_kan_nano.digits" in zoo.list_pretrained(), zoo.list_pretrained()

import torch  # noqa: E402

model = zoo.create_model("medvit2_kan_nano", pretrained=True).eval()
with torch.no_grad():
    first = model(torch.zeros(2, 3, 32, 32))
assert first.shape == (2, 10)
assert torch.isfinite(first).all()

zoo.save_pretrained(model, "exported", license="apache-2.0")
with torch.no_grad():
    assert torch.equal(first, zoo.create_model("local-dir:exported").eval()(torch.zeros(2, 3, 32, 32)))

import timm  # noqa: E402

with torch.no_grad():
    theirs = timm.create_model("medvit2_kan_nano", pretrained=True).eval()(torch.zeros(2, 3, 32, 32))
assert torch.equal(first, theirs)

try:
    zoo.finetune(model, "digits", out="runs/x")
except zoo.ZooError as error:
    assert "pip install" in str(error), error  # the extra is not installed here, and the error says how to
else:
    raise SystemExit("fine-tuned without the extra")
print("smoke test passed in", Path.cwd().name)
