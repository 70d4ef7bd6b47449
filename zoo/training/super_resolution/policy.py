"""How pixels of an enlarged image are given to networks, as callers ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.layers.pixel_adaptive.coordinates import is_number
from zoo.models.super_resolution.checks import POLICIES
from zoo.naming import check_keywords, did_you_mean

#: Options of the forward of a model that decides, on how it does.
_OPTIONS = ("policy", "k", "target", "refine", "adm_scope")


def policy_options(
    policy: str | Mapping[str, Any] | None = None, budget: float | None = None, k: float = 0.0
) -> dict[str, Any]:
    """Options of the model's forward; empty where nothing is asked for.

    Args:
        policy: one of `POLICIES`, or options as the forward takes them.
        budget: FLOPs as a part of what they are with all pixels heavy: the policy "target".
        k: exponent of the costs, of "argmax".

    Raises:
        ValueError: an unknown policy, or two that contradict each other.
        TypeError: a budget that is no number, an option that the forward does not have.
    """
    if budget is not None:
        if not is_number(budget):
            raise TypeError(f"budget must be a number, FLOPs as a part of all pixels heavy, got {budget!r}")
        if policy not in (None, "target") or k:
            raise ValueError(f"budget={budget} decides classes by what they cost: leave policy and k out")
        return {"policy": "target", "target": budget}
    if isinstance(policy, Mapping):
        check_keywords(policy, _OPTIONS, "policy")
        return {**policy, **({"k": k} if k else {})}
    if policy == "target":
        raise ValueError("policy='target' needs budget= (--budget), FLOPs as a part of all pixels heavy")
    if policy is not None and policy not in POLICIES:
        hint = did_you_mean(str(policy), POLICIES)
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}{hint}")
    return {**({} if policy is None else {"policy": policy}), **({"k": k} if k else {})}


def refuse_options(options: Mapping[str, Any], name: str) -> None:
    """Refuse, of a model whose pixels have no classes, what `policy_options` gives, in the words of the caller.

    Args:
        options: of the forward of a model that decides.
        name: of the model.

    Raises:
        ValueError: there is one.
    """
    asked = {key: value for key, value in options.items() if key != "target"}
    if "target" in options:
        asked = {"budget": options["target"], **{key: value for key, value in asked.items() if key != "policy"}}
    if asked:
        said = ", ".join(f"{key}={value!r}" for key, value in asked.items())
        raise ValueError(f"{said}: {name} has one way to enlarge images; pcsr_… decide what pixels cost")
