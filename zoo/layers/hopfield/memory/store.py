"""A memory that patterns are put into, taken out of, and recalled from."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.layers.hopfield.memory.composed import Recall, working_dtype
from zoo.layers.hopfield.memory.energies import energy
from zoo.layers.hopfield.memory.feature_map import learn_feature_map
from zoo.layers.hopfield.memory.margins import beta_for, check_recalls_one, norm_range
from zoo.layers.hopfield.memory.report import RetrievalReport, retrieval_report
from zoo.layers.hopfield.memory.retrieval import association as association_of
from zoo.layers.hopfield.memory.retrieval import check_beta, check_store, check_top, recall
from zoo.layers.hopfield.memory.separation import Separation
from zoo.layers.hopfield.memory.similarity import Comparison
from zoo.layers.hopfield.memory.streaming import chunks
from zoo.layers.hopfield.options import check_tensors, positive_int, post_function

_NO_LABEL = -1
_SAMPLE = 1024


class HopfieldMemory(nn.Module):
    """Stored patterns, with values and labels if wanted, that complete what is like them.

    `memory(state)` is `retrieve` from what is stored, and reads a large store as that does: chunk by chunk, without
    gradients to it. The store is a part of the state dict, and loads whatever its size.

    Shapes: (*, dim) -> (*, dim), or (*, value_dim).

    Args:
        dim: width of states and patterns.
        value_dim: width of values that are stored with the patterns and read out instead of them; None for none.
        num_patterns: patterns to begin with, drawn from the normal distribution; they stand for themselves until
            replaced or learned.
        beta: inverse temperature, or "auto": found by `beta_for` for the map when needed, and again after the store has
            changed, in place too (but for changes through `.data`).
        error, eps, share: of "auto": distance left after an update, as a share of the longest pattern; distance of the
            states before; share of the patterns for which that must hold.
        num_updates, similarity, association, alpha, k, degree, post: as `retrieve`.
        learnable: patterns and values are parameters. Adding and removing make new ones, which an optimiser must be
            told.
        check_finite: refuse patterns and values with NaN or infinity.
        persistent: keep the store in the state dict; a learnable one always is.

    Raises:
        ValueError, TypeError: an option out of range or unknown.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    patterns: Tensor
    values: Tensor | None
    labels: Tensor
    feature_map: Tensor | None

    def __init__(
        self,
        dim: int,
        *,
        value_dim: int | None = None,
        num_patterns: int = 0,
        beta: float | str = 1.0,
        error: float = 0.01,
        eps: float = 0.0,
        share: float = 1.0,
        num_updates: int = 1,
        similarity: str = "dot",
        association: str = "softmax",
        alpha: float | None = None,
        k: int | None = None,
        degree: int | None = None,
        post: str | Callable[[Tensor], Tensor] | None = None,
        learnable: bool = False,
        check_finite: bool = True,
        persistent: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = positive_int("dim", dim)
        self.value_dim = None if value_dim is None else positive_int("value_dim", value_dim)
        self.num_patterns = positive_int("num_patterns", num_patterns) if num_patterns else 0
        self.similarity = Comparison(similarity).similarity
        self.separation = Separation(association, alpha, k, degree)
        self.num_updates = positive_int("num_updates", num_updates)
        post_function(post)
        self.post = post
        if isinstance(beta, str):
            if beta != "auto":
                raise ValueError(f"beta must be a number or 'auto', got {beta!r}")
            if learnable:
                raise ValueError("beta='auto' needs patterns that stay as they are: learnable=False, or a number")
            check_recalls_one(self.separation)
        else:
            check_beta(beta)
        self.beta = beta
        self.auto = {"error": error, "eps": eps, "share": share}
        self.learnable = bool(learnable)
        self.check_finite = bool(check_finite)
        self.found_beta: float | None = None
        self._found_for: tuple[Any, ...] = ()
        self._owned = True  # or lent by the caller, whose tensors stay as they are
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        stores = {"patterns": torch.empty(self.num_patterns, self.dim, **place), "values": None}
        if self.value_dim is not None:
            stores["values"] = torch.empty(self.num_patterns, self.value_dim, **place)
        for name, store in stores.items():
            if self.learnable:
                self.register_parameter(name, None if store is None else nn.Parameter(store))
            else:
                self.register_buffer(name, store, persistent=persistent)
        labels = torch.empty(self.num_patterns, device=device, dtype=torch.int64)
        self.register_buffer("labels", labels, persistent=persistent)
        self.register_buffer("feature_map", None, persistent=persistent)
        self.reset_parameters()

    @classmethod
    def over(
        cls,
        stored: Shaped[Tensor, "patterns dim"],
        values: Shaped[Tensor, "patterns value_dim"] | None = None,
        labels: Int[Tensor, " patterns"] | None = None,
        *,
        persistent: bool = False,
        **options: Any,
    ) -> "HopfieldMemory":
        """A memory of a store that is there already, of any dtype, which is not copied: see `mapped_patterns`.

        To check that it is finite, all of it is read once; `check_finite=False` leaves that out. Adding, removing,
        replacing and loading copy what stays into memory: the tensors given here are never written to.

        Args:
            stored, values, labels: the store.
            persistent: keep it in the state dict.
            options: of the constructor.

        Raises:
            ValueError, TypeError: as the constructor, `add` and `retrieve`.
        """
        check_tensors(stored=stored, values=values)
        if stored.dim() != 2 or (values is not None and values.dim() != 2):
            shapes = tuple(stored.shape), None if values is None else tuple(values.shape)
            raise ValueError(f"stored and values must have two axes, got {shapes[0]} and {shapes[1]}")
        memory = cls(
            stored.shape[1],
            value_dim=None if values is None else values.shape[1],
            persistent=persistent,
            device=stored.device,
            **options,
        )
        memory._check(stored, values, labels, converted=False)
        memory._put(patterns=stored, values=values, labels=memory._labels(labels, len(stored)))
        memory._owned = False
        return memory

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget everything but the random patterns that the memory begins with, which are drawn anew."""
        kept = {name: getattr(self, name) for name in ("patterns", "values")}
        for name, store in kept.items():
            if store is not None:
                here = len(store) == self.num_patterns
                kept[name] = store if here else store.new_empty(self.num_patterns, store.shape[1])
                if store.is_floating_point():
                    nn.init.normal_(kept[name])
                else:
                    nn.init.zeros_(kept[name])
        self._put(**kept, labels=self._labels(None, self.num_patterns))
        self.feature_map = None

    def __len__(self) -> int:
        return len(self.patterns)

    # --- what is stored ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def add(
        self,
        patterns: Shaped[Tensor, "n dim"],
        values: Shaped[Tensor, "n value_dim"] | None = None,
        labels: Int[Tensor, " n"] | Sequence[int] | None = None,
    ) -> None:
        """Store patterns after those that are there. The store is copied: add many at once.

        Args:
            patterns: (n, dim).
            values: (n, value_dim), if the memory has values.
            labels: one integer a pattern; -1, for no label, if None.

        Raises:
            ValueError: sizes that do not fit, NaN or infinity, also of numbers too large for the dtype of the store.
            TypeError: no tensors, values missing or not expected, fractions for a store of integers.
        """
        self._check(patterns, values, labels)
        self._put(
            patterns=torch.cat([self.patterns, patterns.to(self.patterns)]),
            values=None if self.values is None or values is None else torch.cat([self.values, values.to(self.values)]),
            labels=torch.cat([self.labels, self._labels(labels, len(patterns))]),
        )

    @torch.no_grad()
    def remove(self, indices: int | Sequence[int] | Shaped[Tensor, " n"]) -> None:
        """Forget patterns; those after them move up.

        Args:
            indices: numbers of patterns, or one boolean for each.

        Raises:
            IndexError: there is no such pattern.
            TypeError: indices that are no integers or booleans.
        """
        kept = torch.ones(len(self), dtype=torch.bool, device=self.labels.device)
        kept[self._rows(indices)] = False
        self._put(
            patterns=self.patterns[kept.to(self.patterns.device)],
            values=None if self.values is None else self.values[kept],
            labels=self.labels[kept],
        )

    @torch.no_grad()
    def replace(
        self,
        indices: int | Sequence[int] | Shaped[Tensor, " n"],
        patterns: Shaped[Tensor, "n dim"],
        values: Shaped[Tensor, "n value_dim"] | None = None,
        labels: Int[Tensor, " n"] | Sequence[int] | None = None,
    ) -> None:
        """Store other patterns in the place of some.

        Args:
            indices: whose place, as `remove`.
            patterns, values, labels: as `add`.

        Raises:
            ValueError, TypeError: as `add`; another number of patterns than of indices, an index twice.
            IndexError: there is no such pattern.
        """
        rows = self._rows(indices)
        self._check(patterns, values, labels)
        if len(rows) != len(patterns):
            raise ValueError(f"there must be one pattern for each of {len(rows)} indices, got {len(patterns)}")
        if len(rows.unique()) != len(rows):
            raise ValueError(f"an index must be given once, got {rows.tolist()}")
        if not self._owned:
            self._put(
                patterns=self.patterns.clone(),
                values=None if self.values is None else self.values.clone(),
                labels=self.labels.clone(),
            )
        self.patterns[rows] = patterns.to(self.patterns)
        if self.values is not None and values is not None:
            self.values[rows] = values.to(self.values)
        self.labels[rows] = self._labels(labels, len(patterns))
        self.found_beta = None

    def learn_feature_map(self, steps: int = 100) -> None:
        """Spread the stored patterns by a linear map and compare through it from now on, see `learn_feature_map`."""
        self.feature_map = learn_feature_map(self.patterns.to(working_dtype(self.patterns)), steps=steps)
        self.found_beta = None

    def _rows(self, indices: int | Sequence[int] | Tensor) -> Tensor:
        rows = torch.as_tensor(indices, device=self.labels.device)
        if rows.dim() > 1 or (rows.numel() and (rows.is_floating_point() or rows.is_complex())):
            given = f"{rows.dtype} of shape {tuple(rows.shape)}"
            raise TypeError(f"indices must be an integer, or integers or booleans in a row, got {given}")
        rows = rows.reshape(-1)
        if rows.dtype == torch.bool:
            if len(rows) != len(self):
                raise IndexError(f"there must be one boolean for each of {len(self)} patterns, got {len(rows)}")
            return rows.nonzero().squeeze(-1)
        wrong = (rows < -len(self)) | (rows >= len(self))
        if bool(wrong.any()):
            raise IndexError(f"there are {len(self)} stored patterns, got the index {int(rows[wrong][0])}")
        return rows.long() % max(len(self), 1)

    def _labels(self, labels: Tensor | Sequence[int] | None, count: int) -> Tensor:
        if labels is None:
            return torch.full((count,), _NO_LABEL, device=self.labels.device)
        return torch.as_tensor(labels, device=self.labels.device).long()

    def _check(self, patterns: Tensor, values: Tensor | None, labels: Any, *, converted: bool = True) -> None:
        """Refuse what does not fit; `converted` says that it will be stored in the dtype of the memory."""
        check_tensors(patterns=patterns, values=values)
        if patterns.dim() != 2 or patterns.shape[1] != self.dim:
            raise ValueError(f"patterns must be (n, {self.dim}), got {tuple(patterns.shape)}")
        if (values is None) != (self.value_dim is None):
            wanted = "no values" if self.value_dim is None else f"values {self.value_dim} wide"
            raise TypeError(f"the memory stores {wanted}: got {'none' if values is None else 'some'}")
        if values is not None and values.shape != (len(patterns), self.value_dim):
            wanted = (len(patterns), self.value_dim)
            raise ValueError(f"values must be {wanted}, one for each pattern, got {tuple(values.shape)}")
        if labels is not None:
            try:
                given = torch.as_tensor(labels)
            except (TypeError, ValueError) as error:
                raise ValueError(f"labels must be {len(patterns)} integers, got {labels!r}") from error
            if given.shape != (len(patterns),) or given.is_floating_point():
                raise ValueError(f"labels must be {len(patterns)} integers, got {given.dtype} {tuple(given.shape)}")
        for name, given in {"patterns": patterns, "values": values}.items():
            if given is None or not given.is_floating_point() or given.is_meta:
                continue
            store = getattr(self, name)
            if len(self) and not store.is_floating_point():
                raise TypeError(f"the stored {name} are {store.dtype}: {given.dtype} would lose its fractions")
            dtype = store.dtype if converted and store.is_floating_point() else given.dtype
            if self.check_finite and not _finite(given, dtype):
                kind = f"{name} must be finite" + ("" if dtype == given.dtype else f" in {dtype}, as they are stored")
                raise ValueError(f"{kind}, got NaN or infinity; check_finite=False takes them")

    def _put(self, **stores: Tensor | None) -> None:
        for name, store in stores.items():
            if name in self._parameters and store is not None and store is not getattr(self, name):
                store = nn.Parameter(store.detach())
            setattr(self, name, store)
        self._owned = True
        self.found_beta = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take the size of what is loaded; another width is refused as everywhere, and so is a store that is none."""
        found = {name: state_dict.get(prefix + name) for name in ("patterns", "values", "labels")}
        if wrong := self._wrong(found):
            args[-1].extend(f"{prefix}{message}" for message in wrong)
            return
        rooms = {
            name: store.new_empty(len(found[name]), *store.shape[1:])  # pyright: ignore[reportArgumentType]
            for name in found
            if (store := getattr(self, name)) is not None
            and found[name] is not None
            and found[name].shape[1:] == store.shape[1:]  # pyright: ignore[reportOptionalMemberAccess]
            and (found[name].shape != store.shape or not self._owned)  # pyright: ignore[reportOptionalMemberAccess]
        }
        if rooms:
            self._put(**rooms)
        learned = state_dict.get(prefix + "feature_map")
        self.feature_map = None if learned is None else torch.empty_like(learned, device=self.patterns.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _wrong(self, found: dict[str, Tensor | None]) -> list[str]:
        """What is wrong with a store that is to be loaded, where its parts belong together."""
        counts = {name: len(store) for name, store in found.items() if store is not None and store.dim()}
        if len(set(counts.values())) > 1:
            return [f"patterns, values and labels must be as many, got {counts}"]
        floats = {
            name: store
            for name, store in found.items()
            if store is not None and store.is_floating_point() and not store.is_meta and self.check_finite
        }
        return [
            f"{name}: must be finite, got NaN or infinity; check_finite=False takes them"
            for name, store in floats.items()
            if not _finite(store, store.dtype)
        ]

    # --- what is recalled -------------------------------------------------------------------------------------------

    def inverse_temperature(self) -> float:
        """beta; with "auto" the one found for what is stored, which is looked for now if the store has changed.

        Raises:
            ValueError: with "auto", no beta is enough (see `beta_for`); nothing is stored.
        """
        if not isinstance(self.beta, str):
            return self.beta
        now = [part for part in (self.patterns, self.feature_map) if part is not None]
        if self.found_beta is not None and must_compose(*now):  # nothing to look at
            return self.found_beta
        known = tuple((part, None if part.is_inference() else part._version, part.data_ptr()) for part in now)
        if self.found_beta is None or not _alike(known, self._found_for):
            self._check_filled()
            length = float(norm_range(self.patterns)[1])
            self.found_beta = beta_for(
                self.auto["error"] * max(length, torch.finfo(torch.float32).tiny),
                self.patterns,
                eps=self.auto["eps"],
                share=self.auto["share"],
                similarity=self.similarity,
                feature_map=self.feature_map,
                association=self.separation.association,
                alpha=self.separation.alpha,
                k=self.separation.k,
                sample=_SAMPLE,
            )
            self._found_for = known
        return self.found_beta

    def _check_filled(self) -> None:
        if not len(self):
            raise ValueError("the memory is empty: add(patterns) first")

    def _how(self, state: Tensor | None = None) -> dict[str, Any]:
        """Options of `retrieve`; what is asked is checked before a beta is looked for."""
        self._check_filled()
        if state is not None:
            check_store(state, self.patterns, self.values, self.feature_map)
        chosen = self.separation
        options = {"alpha": chosen.alpha, "k": chosen.k, "degree": chosen.degree}
        return {"beta": self.inverse_temperature(), "association": chosen.association, **options}

    def recall(self, state: Float[Tensor, "*states dim"], top: int | None = None) -> Recall:
        """Retrieve, with the potential, and the `top` patterns of the last update and their weights: see `recall`."""
        self._check_filled()
        check_top(top, len(self))
        how = self._how(state)
        return recall(
            state,
            self.patterns,
            self.values,
            num_updates=self.num_updates,
            similarity=self.similarity,
            feature_map=self.feature_map,
            post=self.post,
            top=top,
            **how,
        )

    def forward(self, state: Float[Tensor, "*states dim"]) -> Float[Tensor, "*states out"]:
        return self.recall(state).result

    def label(self, state: Float[Tensor, "*states dim"]) -> Int[Tensor, "*states"]:
        """Label of the stored pattern that each state ends at; -1 if that has none, or the state is not finite."""
        found = self.recall(state, top=1)
        assert found.indices is not None
        assert found.weights is not None
        labels = self.labels[found.indices.squeeze(-1).to(self.labels.device)].to(state.device)
        known = state.isfinite().all(-1) & found.weights.squeeze(-1).isfinite()
        return labels.where(known, _NO_LABEL)

    def association(self, state: Float[Tensor, "*states dim"]) -> Float[Tensor, "*states patterns"]:
        """Weights of all stored patterns at the first update, a whole matrix."""
        return association_of(
            state, self.patterns, similarity=self.similarity, feature_map=self.feature_map, **self._how(state)
        )

    def energy(self, state: Float[Tensor, "*states dim"]) -> Float[Tensor, "*states"]:
        """Energy of states, see the function `energy`.

        Raises:
            ValueError: a similarity other than "dot", a feature map, or a map without energy.
        """
        if self.similarity != "dot" or self.feature_map is not None:
            what = "through a feature map" if self.feature_map is not None else f"similarity {self.similarity!r}"
            raise ValueError(f"the energy is that of similarity 'dot' without a feature map, the memory has {what}")
        how = self._how(state)
        how.pop("degree")
        return energy(state, self.patterns, **how)

    def report(
        self, states: Float[Tensor, "states dim"] | None = None, *, eps: float = 0.0, sample: int = 256
    ) -> RetrievalReport:
        """What will be recalled, and what to do if that is not the stored patterns: see `retrieval_report`."""
        return retrieval_report(
            self.patterns.detach(),
            states,
            eps=eps,
            sample=sample,
            similarity=self.similarity,
            feature_map=self.feature_map,
            **self._how(states),
        )

    def extra_repr(self) -> str:
        parts = [str(self.dim), f"{len(self)} patterns"]
        parts += [] if self.value_dim is None else [f"value_dim={self.value_dim}"]
        beta = self.beta if isinstance(self.beta, str) else f"{self.beta:g}"
        parts += [f"beta={beta}", f"num_updates={self.num_updates}", self.similarity, self.separation.association]
        return ", ".join(parts + ["learnable"] * self.learnable)


def _finite(store: Tensor, dtype: torch.dtype) -> bool:
    """All numbers are finite once they are of the dtype; looked at chunk by chunk."""
    return all(bool(chunk.isfinite().all()) for _, chunk in chunks(store, store.new_empty(0, dtype=dtype)))


def _alike(now: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    """The same tensors, of the same versions, at the same places."""
    pairs = zip(now, before, strict=False)
    return len(now) == len(before) and all(a[0] is b[0] and a[1:] == b[1:] for a, b in pairs)
