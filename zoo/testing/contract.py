"""The contract test: every check of a kind on one module, all failures in one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from zoo.errors import UnknownModuleError
from zoo.naming import did_you_mean
from zoo.registry import list_modules, module_entry
from zoo.testing import building, calling, compiling, copying, learning, promises
from zoo.testing.kinds import KINDS
from zoo.testing.subject import Subject

#: A check raises when the promise is broken, and returns why it does not apply where it does not.
Check = Callable[[Subject], str | None]

_FIRST: dict[str, Check] = {"layout": building.layout, "builds": building.builds, "call": calling.call}
#: When one of these fails, nothing else can be told.
_GATES = tuple(_FIRST)
_COMMON: dict[str, Check] = {
    "dtype": calling.dtype,
    "meta": building.meta,
    "unknown_keyword": building.unknown_keyword,
    "reset_parameters": building.reset_parameters,
    "gradient": learning.gradient,
    "gradcheck": learning.gradcheck,
    "state_dict": copying.state_dict,
    "deepcopy": copying.deepcopy,
    "pickle": copying.pickled,
    "batch_of_zero": calling.batch_of_zero,
    "batch_of_one": calling.batch_of_one,
    "non_contiguous": calling.non_contiguous,
    "input_kept": calling.input_kept,
    "compile": compiling.compiled,
    "export": compiling.exported,
}
_CALLED: dict[str, Check] = {"shape": calling.shape, "batch_independence": calling.batch_independence}
_PROJECTION: dict[str, Check] = {"attributes": promises.attributes, "one_output": promises.one_output}
_OWN: dict[str, dict[str, Check]] = {
    "head": {**_PROJECTION, "keywords": building.keywords, "leading_axes": promises.leading_axes},
    "circuit": _PROJECTION,
    "pool": {"permutation": promises.permutation},
    "mlp": {"keywords": building.keywords, "widths": promises.widths, "leading_axes": promises.leading_axes},
    "mixer": {
        "keywords": building.keywords,
        "attn_mask": promises.attn_mask,
        "rope": promises.rope,
        "prefix": promises.prefix,
    },
    "act": {"element_wise": promises.element_wise},
    "upsampler": {"scales": promises.scales},
    "stitch": {"attributes": promises.attributes},
}
_IMITATES = ("head", "circuit", "mlp", "mixer", "pool")


@dataclass(frozen=True)
class Report:
    """What `check_module` found.

    Attributes:
        name: the module.
        kind: its kind.
        passed: names of the checks that hold.
        skipped: names of those that were not made, with the reason.
    """

    name: str
    kind: str
    passed: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, [*self.passed, *self.skipped]), default=0)
        lines = [f"{self.name} keeps the contract of the kind {self.kind!r}"]
        lines += [f"  {name:{width}}  holds" for name in self.passed]
        lines += [f"  {name:{width}}  {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)


def checks_of(kind: str) -> dict[str, Check]:
    """The checks of a kind by name, in the order in which they are made; a check's docstring says what it asks.

    Raises:
        UnknownModuleError: unknown kind, with the nearest ones.
    """
    if kind not in KINDS:
        raise UnknownModuleError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS) or '.'} Kinds: {', '.join(KINDS)}")
    if kind not in _OWN:
        return {"builds": building.builds_from_options, "call": calling.call, **_COMMON}
    imitate: dict[str, Check] = {"imitate": learning.imitate} if kind in _IMITATES else {}
    return {**_FIRST, **_CALLED, **_COMMON, **_OWN[kind], **imitate}


def check_module(
    kind: str,
    cls: Callable[..., Any] | str | None = None,
    *,
    exceptions: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
    example: Callable[[int], Any] | None = None,
    compiler: str = "auto",
) -> Report:
    """Hold a module to the contract of its kind: every check is made, then all failures are told at once.

        check_module("head", MyHead)
        check_module("mixer/dina")
        check_module("head", MyHead, exceptions={"export": "draws samples in a Python loop"})

    Runs on the CPU with small sizes, in seconds, and needs no test runner. The random state of torch is left as it
    was; what torch.compile had compiled in this process is forgotten.

    Args:
        kind: one of `zoo.registry.KINDS`, or `"kind/name"` of a registered module.
        cls: the class (or a function that builds the module), or the name of a registered one.
        exceptions: checks that are not made, with the reason; their names are those of `checks_of(kind)`.
        sizes: other sizes than the small ones of the kind: constructor sizes and `tokens`, `height`, `width`.
        options: keywords of the constructor, for every instance but one, which has to do without.
        example: inputs of one call from the number of rows, for kinds whose contract has no call (`memory`,
            `localizer`, `case`): a tensor or a tuple, the rows on the first axis. What all modules promise is checked
            with it.
        compiler: backend of torch.compile; "auto" is "inductor" where it works, else "aot_eager".

    Returns:
        The checks that hold and those that were skipped; its text is a table.

    Raises:
        AssertionError: broken promises, each with what was expected and what came.
        UnknownModuleError: unknown kind or name, with the nearest ones.
        ValueError: an exception or a size of an unknown name, an exception without a reason, no example for a kind
            that needs one, or one for a kind that does not.
        TypeError: neither a class nor a name, or both.
    """
    subject = _subject(kind, cls, sizes or {}, options or {}, example, compiler)
    checks = checks_of(subject.kind)
    skipped = _reasons(exceptions or {}, checks, subject.kind)
    passed, broken = [], {}
    with torch.random.fork_rng(devices=[]):
        for name, check in checks.items():
            if name in skipped:
                continue
            torch.manual_seed(0)
            try:
                reason = check(subject)
            except Exception as error:
                broken[name] = _words(error)
                if name in _GATES:
                    break
            else:
                if reason is None:
                    passed.append(name)
                else:
                    skipped[name] = reason
    if broken:
        lines = [f"  {name}: {words}" for name, words in broken.items()]
        stop = ["  (the other checks were not made)"] if list(broken)[-1] in _GATES else []
        head = f"{subject.name} breaks the contract of the kind {subject.kind!r}:"
        raise AssertionError("\n".join([head, *lines, *stop]))
    return Report(subject.name, subject.kind, tuple(passed), skipped)


def _subject(
    kind: str,
    cls: Callable[..., Any] | str | None,
    sizes: Mapping[str, int],
    options: Mapping[str, Any],
    example: Callable[[int], Any] | None,
    compiler: str,
) -> Subject:
    if not isinstance(kind, str):
        given = getattr(kind, "__qualname__", repr(kind))
        wanted = f"check_module({cls!r}, {given})" if cls in KINDS else f"check_module('head', {given})"
        raise TypeError(f"check_module takes the kind first, then the class, got {kind!r}; did you mean {wanted}?")
    name = kind if "/" in kind else f"{kind}/{cls}"
    if "/" in kind and cls is not None:
        raise TypeError(
            f"check_module({kind!r}) names the module; a class goes with a kind: {kind.partition('/')[0]!r}"
        )
    layouts, fixed = {}, {}
    if "/" in kind or isinstance(cls, str):
        entry = module_entry(name)
        name, kind, target, fixed = entry.name, entry.kind, entry.load(), entry.args
        layouts = {"catalogue": entry.layout} if entry.layout else {}
    elif callable(cls):
        target, name = cls, getattr(cls, "__qualname__", repr(cls))
    else:
        if cls is None and kind not in KINDS and list_modules(kind):
            module_entry(kind)  # raises: a name without its kind, with the kinds that have it
        checks_of(kind)
        raise TypeError(f"check_module({kind!r}, …) needs a class or the name of a registered module, got {cls!r}")
    checks_of(kind)
    rules = KINDS[kind]
    if declared := getattr(target, "layout", ""):
        layouts = {"class": declared, **layouts}
    for size in sizes:
        if size not in rules.sizes:
            known = f". Sizes of the kind {kind!r}: {', '.join(rules.sizes) or 'none, give options'}"
            raise ValueError(f"unknown size {size!r}{did_you_mean(size, rules.sizes)}{known}")
    if rules.row is None and example is None:
        raise ValueError(
            f"the contract has no call for the kind {kind!r}: pass example=, a function of the number of rows that "
            "returns the inputs of one call"
        )
    if rules.row is not None and example is not None:
        raise ValueError(f"the contract says how a module of the kind {kind!r} is called; give sizes, not an example")
    return Subject(name, kind, rules, target, fixed, options, {**rules.sizes, **sizes}, layouts, compiler, example)


def _reasons(exceptions: Mapping[str, str], checks: Mapping[str, Check], kind: str) -> dict[str, str]:
    for name, reason in exceptions.items():
        if name not in checks:
            hint = did_you_mean(name, checks) or "."
            raise ValueError(f"unknown check {name!r}{hint} Checks of the kind {kind!r}: {', '.join(checks)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"the exception {name!r} needs a reason, got {reason!r}")
    return dict(exceptions)


def _words(error: Exception) -> str:
    """One line of an error, at most 400 letters of it."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 400 else text[:400] + " …"
    return text if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text}"
