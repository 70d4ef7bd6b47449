"""Networks of pykan from the golden data, and small ones of our own."""

import torch

from tests.layers.kan.goldens import Golden, golden
from zoo.layers.kan import KAN


def pykan(name: str) -> tuple[Golden, KAN]:
    """A case and its network."""
    case = golden(name)
    options = case.meta["kwargs"]
    model = KAN(options["width"], arity=options.get("mult_arity", 2), affine=True, grid_size=options["grid"])
    model.load_state_dict(case.state(), strict=True)
    return case, model


def network(sizes, seed=0, **options) -> KAN:
    """A network in float64 whose edges are far from 0 and from one another."""
    torch.manual_seed(seed)
    return KAN(sizes, **{"scale_noise": 2.0, "dtype": torch.float64, **options})


def rows(count: int, features: int, seed: int = 1) -> torch.Tensor:
    """A sample in float64 from [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, features, dtype=torch.float64, generator=generator) * 2 - 1
