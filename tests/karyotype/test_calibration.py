"""The temperature that is fitted is the one of the data, and data without one is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from zoo.karyotype import dispatch, expected_calibration_error, fit_temperature


def _drawn(count, temperature, classes=24, seed=0):
    """Labels drawn from softmax(logits / temperature)."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 4, (count, classes))
    noise = draw.gumbel(size=(count, classes))
    return logits, (logits / temperature + noise).argmax(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_finds_the_temperature_of_the_data(temperature):
    logits, labels = _drawn(20000, temperature)
    found = fit_temperature(logits, labels)
    assert float(found) == pytest.approx(temperature, rel=0.03)
    assert found.nll_after <= found.nll_before
    assert found.ece_after < 0.02
    if temperature != 1:
        assert found.ece_before > 0.08


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e6])
def test_is_the_minimum(scale):
    logits, labels = _drawn(300, 1.7, classes=5)
    logits = logits * scale

    def nll(log_temperature):
        scores = torch.tensor(logits) / np.exp(log_temperature)
        return torch.nn.functional.cross_entropy(scores, torch.tensor(labels)).item()

    centre = np.log(1.7 * scale)
    best = minimize_scalar(nll, bounds=(centre - 3, centre + 3), method="bounded", options={"xatol": 1e-10})
    found = fit_temperature(torch.tensor(logits), torch.tensor(labels))
    assert found.temperature == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found.nll_after == pytest.approx(best.fun, abs=1e-12)
    assert found.nll_before == pytest.approx(nll(0.0), rel=1e-9)


def test_log_probabilities_are_ready_for_dispatch():
    logits, labels = _drawn(400, 3.0)
    found = fit_temperature(logits, labels)
    log_probs = found.log_probs(torch.tensor(logits[:46]))
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1)
    np.testing.assert_allclose(
        log_probs, torch.log_softmax(torch.tensor(logits[:46]) / found.temperature, -1), atol=1e-9
    )
    assert len(dispatch(log_probs)) == 46


def test_expected_calibration_error():
    """Two bins by hand: 3 of 4 right at confidence 0.8, 1 of 2 right at 0.9."""
    sure = np.array([0.8] * 4 + [0.9] * 2)
    logits = np.log(np.stack([sure, 1 - sure], 1))
    labels = np.array([0, 0, 0, 1, 0, 1])
    wanted = (4 * abs(0.75 - 0.8) + 2 * abs(0.5 - 0.9)) / 6
    assert expected_calibration_error(logits, labels, bins=20) == pytest.approx(wanted, abs=1e-12)
    assert expected_calibration_error(logits, labels, bins=1) == pytest.approx(abs(4 / 6 - sure.mean()), abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z, y: (z[0], y[:1]), r"logits must be \[N, C\] of two classes"),
        (lambda z, y: (z[:, :1], y * 0), r"logits must be \[N, C\] of two classes"),
        (lambda z, y: (z[:0], y[:0]), r"logits must be \[N, C\]"),
        (lambda z, y: (np.where(z == z[0, 0], np.nan, z), y), "logits must be finite"),
        (lambda z, y: (np.exp(z) / np.exp(z).sum(1, keepdims=True), y), "these are probabilities"),
        (lambda z, y: (z, y[:-1]), r"labels must be \[100\], got \[99\]"),
        (lambda z, y: (z, y + 1), "labels must be 0 to 4, got 1 to 5"),
        (lambda z, y: (z, z.argmax(1)), "every label of the 100 is the likeliest class: the colder the better"),
        (lambda z, y: (z, z.argmin(1)), "say nothing about the labels: the hotter the better"),
        (lambda z, y: (np.eye(5)[[0, 0, 1]] * 2, y[:3] * 0), "or there are too few, 3: the best temperature, .*, fits"),
        (lambda z, y: (np.ones_like(z), y), "every label of the 100 is the likeliest class"),
    ],
)
def test_refusals(change, message):
    logits, labels = _drawn(100, 1.0, classes=5)
    labels[:5] = np.arange(5)
    with pytest.raises(ValueError, match=message):
        fit_temperature(*change(logits, labels))


@pytest.mark.parametrize(("count", "classes"), [(200, 24), (46, 24), (500, 2)])
def test_noise_has_no_temperature(count, classes):
    """Labels that have nothing to do with the logits: by chance some high temperature fits every other time."""
    for seed in range(40):
        draw = np.random.default_rng(seed)
        with pytest.raises(ValueError, match="the logits say nothing about the labels"):
            fit_temperature(draw.normal(0, 3, (count, classes)), draw.integers(0, classes, count))


def test_other_refusals():
    logits, labels = _drawn(100, 1.0, classes=5)
    with pytest.raises(TypeError, match="labels must be integers"):
        fit_temperature(logits, labels.astype(float))
    with pytest.raises(ValueError, match="bins must be at least 1"):
        fit_temperature(logits, labels, bins=0)


def test_labels_that_are_nearly_all_likeliest():
    """Three of four right by 1 and one wrong by 1e-17: 3 / (1 + e^(1/T)) = 1e-17 / 2."""
    logits = np.tile([1.0, 0.0], (40, 1))
    logits[:10] = [0.0, 1e-17]
    found = fit_temperature(logits, np.zeros(40, int))
    assert 1 / found.temperature == pytest.approx(np.log(6e17), rel=1e-9)
