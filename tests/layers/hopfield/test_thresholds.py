"""Newton's thresholds against those by sorting and bisection, which stay where graphs must not depend on numbers."""

from __future__ import annotations

import pytest
import torch

from zoo.layers.hopfield import associate, thresholds

MAPS = [
    ("sparsemax", {}),
    ("entmax", {"alpha": 1.5}),
    ("entmax", {"alpha": 1.05}),
    ("entmax", {"alpha": 1.8}),
    ("entmax", {"alpha": 3.0}),
    ("normmax", {"alpha": 2.0}),
    ("normmax", {"alpha": 5.0}),
    ("normmax", {"alpha": 1.1}),
    ("budget", {"k": 3}),
]


def _sorted(z: torch.Tensor, name: str, options: dict) -> torch.Tensor:
    """Under vmap no numbers can be looked at."""
    return torch.func.vmap(lambda row: associate(row, name, **options))(z)


@pytest.mark.parametrize(("name", "options"), MAPS)
@pytest.mark.parametrize("spread", [0.0, 0.02, 1.0, 30.0, 1e4])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 700), (torch.float32, 700), (torch.float64, 1)])
def test_equal(name, options, spread, dtype, size):
    if name == "budget" and size == 1:
        options = {"k": 1}
    torch.manual_seed(0)
    z = spread * torch.randn(9, size, dtype=dtype)
    if size > 5:
        z[0, 5:] = -torch.inf
        z[1] = -torch.inf
        z[2, ::2] = z[2].amax()
    found, wanted = associate(z, name, **options), _sorted(z, name, options)
    limit = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, wanted, rtol=0, atol=limit)
    assert not found[z.isneginf()].any()


def test_alpha_of_each_head():
    torch.manual_seed(0)
    z = torch.randn(3, 4, 5, 60, dtype=torch.float64)
    alpha = torch.tensor([1.0, 1.2, 1.5, 2.0], dtype=torch.float64)
    found = associate(z, "entmax", alpha=alpha.view(-1, 1, 1))
    wanted = torch.stack([associate(z[:, h], "entmax", alpha=float(alpha[h])) for h in range(4)], 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_blocks_of_rows_do_not_matter(monkeypatch):
    torch.manual_seed(0)
    z = torch.randn(7, 3, 50)
    whole = [associate(z, name, **options) for name, options in MAPS]
    monkeypatch.setattr(thresholds, "_BLOCK", 120)
    parts = [associate(z, name, **options) for name, options in MAPS]
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


def test_takes_few_steps(monkeypatch):
    """Within twenty steps, from flat to peaked scores."""
    torch.manual_seed(0)
    monkeypatch.setattr(thresholds, "_STEPS", 20)
    for spread in (0.0, 0.1, 1.0, 10.0):
        z = spread * torch.randn(50, 10_000, dtype=torch.float64)
        for name, options in (("sparsemax", {}), ("entmax", {}), ("entmax", {"alpha": 1.2}), ("normmax", {})):
            total = associate(z, name, **options).sum(-1)
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
            wanted = associate(z[:2], name, **options), _sorted(z[:2], name, options)
            torch.testing.assert_close(*wanted, rtol=0, atol=1e-12)
