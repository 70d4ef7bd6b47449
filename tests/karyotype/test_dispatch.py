"""Dispatch is the assignment that is specified, exactly, and says what it did."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

import zoo.karyotype
from tests.karyotype.cases import noisy, types_of
from tests.karyotype.goldens import golden
from zoo.karyotype import HUMAN, Template, dispatch, dispatch_cases, iscn
from zoo.karyotype.reference import plain_assignment


@pytest.mark.parametrize("number", range(10))
def test_goldens(number):
    meta, tensors = golden("dispatch")
    case = meta["kwargs"]["cases"][number]
    found = dispatch(tensors[f"in.{number}.log_probs"], **case["kwargs"])
    np.testing.assert_array_equal(found.types, tensors[f"out.{number}.types"])
    assert found.cost == pytest.approx(tensors[f"out.{number}.cost"].item(), abs=meta["tolerance"])
    assert (found.sex, found.karyotype) == (case["sex"], case["karyotype"])
    truth = tensors[f"in.{number}.true_types"].numpy()
    assert (found.types == truth).mean() == pytest.approx(case["accuracy_dispatch"], abs=1e-12)


@pytest.mark.parametrize(
    ("spread", "margin", "argmax", "greedy", "optimal", "whole"),
    [
        (1.5, 6, 0.9664, 0.9917, 0.9977, (0.195, 0.950)),
        (1.5, 5, 0.8910, 0.9323, 0.9639, None),
        (2, 6, 0.8290, 0.8614, 0.8965, None),
    ],
)
def test_noise_model(spread, margin, argmax, greedy, optimal, whole):
    cases = [noisy(seed, spread, margin) for seed in range(200)]
    right = {"argmax": np.array([table.argmax(1) == types for types, table in cases])}
    for method in ("greedy", "optimal"):
        found = dispatch_cases([table for _, table in cases], method=method)
        right[method] = np.array([one.types == types for one, (types, _) in zip(found, cases, strict=True)])
    assert right["argmax"].mean() == pytest.approx(argmax, abs=5e-4)
    assert right["greedy"].mean() == pytest.approx(greedy, abs=5e-4)
    assert right["optimal"].mean() == pytest.approx(optimal, abs=5e-4)
    if whole:
        assert right["argmax"].all(1).mean() == pytest.approx(whole[0], abs=5e-4)
        assert right["optimal"].all(1).mean() == pytest.approx(whole[1], abs=5e-4)


def test_equals_the_specified_assignment():
    """N x K without rows for what is missing, against K x K with them: random cases, sizes and penalties."""
    draw = np.random.default_rng(0)
    for _ in range(2000):
        classes, extra = int(draw.integers(3, 7)), int(draw.integers(0, 3))
        copies = {sex: draw.integers(0, 4, classes) for sex in ("XX", "XY")}
        copies = {sex: tuple((counts + (np.arange(classes) == 0)).tolist()) for sex, counts in copies.items()}
        room = min(sum(counts) + classes * extra for counts in copies.values())
        log_probs = np.log(draw.dirichlet(np.full(classes, 0.5), int(draw.integers(1, room + 1))) + 1e-9)
        gain, loss = draw.exponential(3, 2) * (draw.random(2) > 0.1)
        found = dispatch(log_probs.clip(max=0), gain=gain, loss=loss, max_extra=extra, template=copies)
        for sex, counts in copies.items():
            types, cost = plain_assignment(log_probs.clip(max=0), counts, gain, loss, extra)
            assert found.costs[sex] == pytest.approx(cost, abs=1e-8)
            if sex == found.sex:
                np.testing.assert_array_equal(found.types, types)
        assert found.cost == pytest.approx(min(found.costs.values()), abs=1e-9)


@pytest.mark.parametrize("method", ["optimal", "greedy"])
def test_equals_the_specified_assignment_of_a_human(method):
    for seed in range(40):
        _, table = noisy(seed, 2, 3 + seed % 3)
        found = dispatch(table, sex="XY", method=method)
        types, cost = plain_assignment(table, HUMAN.of("XY"), math.log(1000), math.log(1000), 2)
        assert found.cost >= cost - 1e-9
        if method == "optimal":
            assert found.cost == pytest.approx(cost, abs=1e-9)
            np.testing.assert_array_equal(found.types, types)


def test_penalties_by_class_are_minimised():
    """Against every way there is."""
    draw = np.random.default_rng(1)
    template = {"XX": (1, 2, 0), "XY": (1, 1, 1)}
    for _ in range(40):
        log_probs = np.log(draw.dirichlet(np.ones(3), 4))
        gain, loss = draw.exponential(1, (2, 3))
        found = dispatch(log_probs, gain=gain, loss=loss, max_extra=2, template=template)
        for sex, copies in template.items():
            costs = []
            for types in itertools.product(range(3), repeat=4):
                change = np.bincount(types, minlength=3) - np.array(copies)
                if (change <= 2).all():
                    price = gain @ change.clip(min=0) - loss @ change.clip(max=0)
                    costs.append(price - log_probs[np.arange(4), types].sum())
            assert found.costs[sex] == pytest.approx(min(costs), abs=1e-9)


@pytest.mark.parametrize("method", ["optimal", "greedy"])
def test_permutes_with_its_input(method):
    for seed in range(20):
        _, table = noisy(seed, 2, 4)
        order = np.random.default_rng(seed).permutation(len(table))
        straight, permuted = dispatch(table, method=method), dispatch(table[order], method=method)
        np.testing.assert_array_equal(straight.types[order], permuted.types)
        assert straight.karyotype == permuted.karyotype
        assert straight.cost == pytest.approx(permuted.cost, abs=1e-9)


def test_high_penalties_hide_aneuploidy():
    """The safety trap: one chromosome 21 too many and one X too few, which every chromosome alone shows."""
    meta, tensors = golden("dispatch")
    assert meta["kwargs"]["cases"][4]["kind"] == "+21-X"
    log_probs = tensors["in.4.log_probs"]
    truth = tensors["in.4.true_types"].numpy()
    np.testing.assert_array_equal(log_probs.argmax(1), truth)
    default = dispatch(log_probs)
    assert default.karyotype == "46,XX"
    (hidden,) = default.overruled  # ... and this is where it shows
    assert (hidden.likeliest, hidden.given) == ("21", "X")
    assert hidden.log_odds == pytest.approx(
        (log_probs[hidden.index, 20] - log_probs[hidden.index, 22]).item(), abs=1e-5
    )
    assert 0 < hidden.log_odds < 2 * math.log(1000)
    assert dispatch(log_probs, strict=True).karyotype == "46,XX"
    seen = dispatch(log_probs, gain=3.0, loss=3.0)
    assert (seen.karyotype, seen.overruled) == ("46,X,+21", ())


def test_what_is_clear_is_found():
    for changes, karyotype in [
        ({}, "46,XX"),
        ({"_21": 1}, "47,XX,+21"),
        ({"X": -1}, "45,X"),
        ({"Y": 1}, "47,XXY"),
        ({"X": -1, "Y": 1}, "46,XY"),
        ({"X": -1, "Y": 2}, "47,XYY"),
        ({"_7": -1}, "45,XX,-7"),
        ({"_7": -2, "_8": 2}, "46,XX,-7,-7,+8,+8"),
        ({"X": 1, "_21": 1, "_18": -1}, "47,XXX,-18,+21"),
    ]:
        types, table = noisy(3, 1, 30, types_of(**changes))
        found = dispatch(table)
        np.testing.assert_array_equal(found.types, types)
        assert found.karyotype == karyotype
        assert found.overruled == ()


@pytest.mark.parametrize(
    ("number", "sexes", "changes", "wanted"),
    [
        (3, (2, 1), {}, "69,XXY"),
        (4, (2, 2), {}, "92,XXYY"),
        (1, (1, 0), {}, "23,X"),
        (3, (2, 1), {21: 1}, "70,XXY,+21"),
        (3, (3, 0), {1: -1, 5: -3, 8: 2}, "67,XXX,-1,-5,-5,-5,+8,+8"),
        (1, (1, 0), {21: 1}, "24,X,+21"),
        (3, (0, 0), {}, "66,-X,-X,-Y"),
        (1, (0, 0), {}, "22,-X"),
        (3, (2, 1), dict.fromkeys(range(1, 12), -1), "58,XXY," + ",".join(f"+{n}" for n in range(12, 23))),
        (3, (2, 1), dict.fromkeys(range(1, 11), -1), "59,XXY," + ",".join(f"-{n}" for n in range(1, 11))),
    ],
)
def test_ploidy(number, sexes, changes, wanted):
    """Changes are those from what more than half of the autosomes have."""
    copies = np.array([number] * 22 + list(sexes))
    for name, change in changes.items():
        copies[name - 1] += change
    assert iscn(copies, "XY") == wanted
    triploid = Template(HUMAN.names, {"XXY": (*[3] * 22, 2, 1)})
    if sum(sexes) and len(changes) != 11:  # of a half, both templates tell their own side
        assert iscn(copies, "XXY", triploid) == wanted


def test_sex_that_costs_the_same_is_xx():
    flat = np.full((44, 24), -math.log(24))
    found = dispatch(flat)
    assert found.sex == "XX"
    assert found.costs["XX"] == pytest.approx(found.costs["XY"], abs=1e-9)
    assert dispatch(flat, template={"XY": HUMAN.of("XY"), "XX": HUMAN.of("XX")}).sex == "XY"  # first of its template


def test_a_type_may_be_impossible():
    types, table = noisy(0, 1, 8)
    table[0, types[0]] = -np.inf
    found = dispatch(table)
    assert found.types[0] != types[0]
    assert math.isfinite(found.cost)
    assert found.log_probs[0] == table[0, found.types[0]]
    only = np.full((3, 24), -np.inf)
    only[:, 23] = 0.0  # two Ys at most without extra ones, and none in XX
    assert dispatch(only).karyotype == "3,YYY" + "".join(f",-{n},-{n}" for n in range(1, 23))
    with pytest.raises(ValueError, match="no assignment has a probability above 0"):
        dispatch(only, max_extra=1)
    with pytest.raises(ValueError, match="no assignment has a probability above 0"):
        dispatch(only, max_extra=1, method="greedy")


def test_strict_takes_the_template():
    for seed in range(10):
        _, table = noisy(seed, 2, 3)
        found = dispatch(table, strict=True)
        assert tuple(found.copies) == HUMAN.of(found.sex)
        free = dispatch(table, gain=1e9, loss=1e9)
        np.testing.assert_array_equal(found.types, free.types)
        assert "template forced" in repr(found)
        assert "forced" not in repr(free)


def test_strict_tries_only_the_sexes_that_fit():
    template = {"XX": (2, 2, 0), "X": (2, 1, 0)}
    found = dispatch(np.log(np.full((3, 3), 1 / 3)), strict=True, template=template)
    assert (found.sex, found.karyotype) == ("X", "3,X")


def test_greedy_gives_what_is_left_to_extra_places():
    types, table = noisy(5, 1, 20, types_of(_21=1))
    found = dispatch(table, method="greedy")
    np.testing.assert_array_equal(found.types, types)
    assert found.karyotype == "47,XX,+21"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tensors_and_arrays(dtype):
    _, table = noisy(2, 1.5, 6)
    given = torch.tensor(table, dtype=dtype, requires_grad=True)
    found = dispatch(given)
    same = dispatch(given.detach().double().numpy())
    np.testing.assert_array_equal(found.types, same.types)
    assert found.cost == same.cost
    assert dispatch(given.detach().double().tolist()).cost == same.cost


def test_cases_in_every_form():
    tables = [noisy(seed, 1.5, 6, types_of(_21=seed % 2, X=-(seed % 3 == 0)))[1] for seed in range(7)]
    wanted = [dispatch(table) for table in tables]
    sizes = [len(table) for table in tables]
    packed = np.concatenate(tables)
    ids = np.repeat(np.arange(7) * 10, sizes)
    shuffled = np.random.default_rng(0).permutation(len(packed))
    forms = [
        dispatch_cases(tables),
        dispatch_cases([torch.tensor(table) for table in tables]),
        dispatch_cases(packed, sizes=sizes),
        dispatch_cases(torch.tensor(packed), sizes=torch.tensor(sizes)),
        dispatch_cases(packed, case_ids=ids),
    ]
    for found in forms:
        assert [one.karyotype for one in found] == [one.karyotype for one in wanted]
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one.types, other.types)
        np.testing.assert_array_equal(np.concatenate([one.rows for one in found]), np.arange(len(packed)))
    mixed = dispatch_cases(packed[shuffled], case_ids=ids[shuffled])
    assert [one.karyotype for one in mixed] == [one.karyotype for one in wanted]
    types = np.empty(len(packed), int)
    for one in mixed:
        types[one.rows] = one.types
    np.testing.assert_array_equal(types, np.concatenate([one.types for one in wanted])[shuffled])
    each = dispatch_cases(tables, sex=["XX"] * 3 + ["auto"] * 4)
    assert [one.sex for one in each[:3]] == ["XX"] * 3
    assert dispatch_cases([]) == []


def test_result_reads_well():
    _, tensors = golden("dispatch")
    found = dispatch(tensors["in.4.log_probs"])
    assert repr(found) == f"Karyotype('46,XX', 46 chromosomes, cost {found.cost:.4g}, 1 overruled)"
    table = str(found).splitlines()
    assert len(table) == 1 + 23 + 1  # no Y, as it should be
    assert table[-1].startswith(f"  overruled: {found.overruled[0].index}, alone likeliest 21, taken for X: log-odds ")
    assert "(p " in table[1]
    assert ", 1 chromosome, cost " in repr(dispatch(tensors["in.4.log_probs"][:1]))
    seen = dispatch(tensors["in.4.log_probs"], gain=3, loss=3).table()
    assert "  (+1)" in seen
    assert "  (-1)" in seen
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["karyotype"] == "46,XX"
    assert plain["copies"]["21"] == 2
    assert plain["overruled"][0]["given"] == "X"
    assert found.names == [HUMAN.names[kind] for kind in found.types]
    with pytest.raises(AttributeError):
        found.sex = "XY"


def test_another_species():
    mouse = Template.diploid(19)
    types = np.repeat(np.arange(21), mouse.of("XY"))
    table = np.full((40, 21), math.log(0.01 / 20))
    table[np.arange(40), types] = math.log(0.99)
    found = dispatch(table, template=mouse)
    assert found.karyotype == "40,XY"
    by_counts = dispatch(table, template=dict(mouse.copies))
    assert by_counts.karyotype == "40,XY"
    assert by_counts.template == mouse


def test_is_public():
    assert zoo.karyotype.dispatch is dispatch
    assert len(HUMAN) == 24
