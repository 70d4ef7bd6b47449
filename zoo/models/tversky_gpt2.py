"""GPT-2 with Tversky projections: as its head, or throughout."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.errors import MissingExtraError
from zoo.layers.tversky.banks import SharedBank
from zoo.layers.tversky.options import check_size
from zoo.layers.tversky.projection import TverskyProjection


class LossAndHidden(NamedTuple):
    """What `TverskyGPT2` gives for labels.

    Attributes:
        loss: mean cross-entropy of the next token; NaN, as `F.cross_entropy` gives, if no label counts.
        hidden: (B, L, n_embd), what the head is given: `model.head(hidden)` are the logits.
    """

    loss: Tensor
    hidden: Tensor


class TokenEmbedding(SharedBank):
    """The token embedding that a transformer has when it is asked, so that another one in its place is followed."""

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    @property
    def owner(self) -> nn.Module:
        return self.transformer.wte


class TverskyGPT2(nn.Module):
    """A transformer, and a head whose next token is the prototype most similar to what the transformer makes of those
    before.

    Shapes: input_ids (B, L) -> logits (B, L, vocabulary). No text (B = 0) gives no logits.

    Args:
        transformer: a `GPT2Model` of the package transformers; its tensors keep the names that they have in GPT-2's
            checkpoints there.
        head: one prototype a token; with `TokenEmbedding(transformer)` for them, a resized or replaced embedding
            changes the vocabulary.

    Raises:
        ValueError: in the call, tokens, mask or labels of a wrong shape or (on a CPU) of values that they cannot have,
            no tokens, or more of them than positions.
        TypeError: in the call, tokens or labels that are no integers.

    Source: "Tversky Neural Networks: Psychologically Plausible Deep Learning with Differentiable Tversky Similarity"
    (2025, arXiv 2506.11035); A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
    """

    def __init__(self, transformer: Any, head: TverskyProjection) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = head
        self.num_features = head.in_features
        self._options: dict[str, Any] = {}
        # No image: what saving compares on an image, and timm's default sizes, have no place here.
        self.pretrained_cfg = {"num_classes": self.num_classes, "input_size": None}

    @property
    def num_classes(self) -> int:
        """Tokens that the head chooses from: of a language model, the classes are its vocabulary."""
        return self.head.prototypes.shape[0]

    @property
    def _model_args(self) -> dict[str, Any]:
        """What a saved config holds, should a default or the vocabulary change."""
        return {**self._options, "vocab_size": self.num_classes}

    @_model_args.setter
    def _model_args(self, options: dict[str, Any]) -> None:  # timm's factory adds what it was given
        self._options = options

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Float[Tensor, "batch tokens vocabulary"] | LossAndHidden:
        """Logits of the next token; with labels, its mean cross-entropy, for which no logits of all tokens are held.

        Args:
            input_ids: (B, L) tokens.
            attention_mask: (B, L), 1 or True, and 0 or False for tokens that no other sees. Positions count from the
                first token that is seen, so that a text padded at its front has the logits that it has alone.
            labels: (B, L), `input_ids` themselves, or -100 where no loss is wanted, as for padding. Each is predicted
                from the tokens before it; the first has none. The loss is NaN if none is left.
        """
        self._check(input_ids, attention_mask, labels)
        hidden = self._hidden(input_ids, attention_mask)
        if labels is None:
            return self.head(hidden)
        loss = self.head.cross_entropy(hidden[:, :-1], labels[:, 1:].long())
        return LossAndHidden(loss, hidden)

    def _hidden(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        if input_ids.shape[0] == 0:  # transformers cannot
            return self.transformer.wte(input_ids)
        positions = None
        if attention_mask is not None:
            seen = attention_mask != 0
            padding = (seen.cumsum(-1) == 0).sum(-1, keepdim=True)
            positions = (torch.arange(input_ids.shape[1], device=input_ids.device) - padding).clamp(min=0)
            attention_mask = seen.long()
        return self.transformer(
            input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False
        ).last_hidden_state

    def _check(self, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor | None) -> None:
        integers = (torch.int64, torch.int32)
        if input_ids.dtype not in integers:
            raise TypeError(
                f"this model takes tokens, no images: input_ids must be int64 or int32, got {input_ids.dtype}"
            )
        if input_ids.ndim != 2:
            more = "; add the batch with input_ids[None]" if input_ids.ndim == 1 else ""
            raise ValueError(f"input_ids must be (batch, tokens), got {tuple(input_ids.shape)}{more}")
        if input_ids.shape[1] == 0:
            raise ValueError(f"input_ids must have a token at least, got {tuple(input_ids.shape)}")
        positions = self.transformer.config.n_positions
        if input_ids.shape[1] > positions:
            raise ValueError(
                f"input_ids has {input_ids.shape[1]} tokens, the model has {positions} positions: cut the text, or "
                f"build the model with n_positions={input_ids.shape[1]}"
            )
        for name, given in (("attention_mask", attention_mask), ("labels", labels)):
            if given is not None and given.shape != input_ids.shape:
                raise ValueError(f"{name} must be {tuple(input_ids.shape)}, as input_ids, got {tuple(given.shape)}")
        if labels is not None and labels.dtype not in integers:
            raise TypeError(f"labels must be int64 or int32, got {labels.dtype}")
        if input_ids.device.type != "cpu" or not input_ids.numel() or must_compose(input_ids):
            return
        tokens = self.transformer.wte.weight.shape[0]
        wrong = [int(t) for t in input_ids.aminmax() if not 0 <= t < tokens]
        if wrong:
            raise ValueError(f"input_ids must be tokens from 0 to {tokens - 1}, got {wrong[0]}")
        if attention_mask is not None:
            others = attention_mask[(attention_mask != 0) & (attention_mask != 1)]
            if others.numel():
                raise ValueError(f"attention_mask must be 0 and 1, or False and True, got {others[0].item():g}")


def tversky_gpt2(
    num_features: int = 16_384,
    *,
    tied: bool = False,
    everywhere: bool = False,
    vocab_size: int = 50_257,
    n_positions: int = 1_024,
    n_embd: int = 768,
    n_layer: int = 12,
    n_head: int = 12,
    drop_rate: float = 0.1,
    num_classes: int | None = None,
    scale: float | str | None = "rsqrt_features",
    similarity: str = "contrast",
    intersection: str = "product",
    difference: str = "ignorematch",
    normalize: bool = False,
    per_feature: bool = False,
    membership: str = "hard",
    nonnegative: bool = False,
    init: str = "scaled_uniform",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TverskyGPT2:
    """GPT-2, small unless told otherwise, with Tversky projections over one bank of features.

    Args:
        num_features: F, of the bank that all projections read; it is the head's.
        tied: the prototypes of the head are the token embedding, and stay so should it be resized or replaced.
        everywhere: in each block, too, one projection with n_embd prototypes in place of the attention's output
            projection, and one in place of the feed-forward part, before its dropout. A design of ours: the paper
            counts 81.14 million parameters for its own, tied, and 116.59 untied; this has 81,130,827 with
            `num_features=8192` tied, and 116,582,475 with 4,096 untied.
        vocab_size, n_positions, n_embd, n_layer, n_head: of GPT-2.
        drop_rate: of all dropouts.
        num_classes: `vocab_size`, or not given.
        scale: of every projection; "rsqrt_features", 1 / sqrt(F), keeps first logits near zero however many features
            there are, None leaves the similarities as they are.
        similarity, intersection, difference, normalize, per_feature, membership, nonnegative, init: of every
            projection, see `TverskyProjection`.
        device, dtype: of the parameters.

    Raises:
        MissingExtraError: transformers is not installed.
        ValueError: a size below 1, n_embd that n_head does not divide, num_classes that is not the vocabulary, an
            unknown name.
        TypeError: a size that is no integer, an option that is neither True nor False.
    """
    sizes = {"vocab_size": vocab_size, "n_positions": n_positions, "n_embd": n_embd, "n_layer": n_layer}
    sizes["n_head"] = n_head
    for name, size in sizes.items():
        check_size(name, size)
    for name, value in (("tied", tied), ("everywhere", everywhere)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    if n_embd % n_head:
        raise ValueError(f"n_embd must be a multiple of n_head, got {n_embd} and {n_head}")
    if num_classes not in (None, vocab_size):
        raise ValueError(
            f"this model takes tokens, no images, and its classes are its vocabulary: num_classes={num_classes} is not "
            f"vocab_size={vocab_size}; give vocab_size={num_classes} alone"
        )
    options: dict[str, Any] = {
        "scale": scale,
        "similarity": similarity,
        "intersection": intersection,
        "difference": difference,
        "normalize": normalize,
        "per_feature": per_feature,
        "membership": membership,
        "nonnegative": nonnegative,
        "init": init,
    }
    with nullcontext() if device is None else torch.device(device):
        transformer = _gpt2(sizes, drop_rate)
        prototypes = TokenEmbedding(transformer) if tied else None
        head = TverskyProjection(n_embd, vocab_size, num_features, prototypes=prototypes, **options)
        for block in transformer.h if everywhere else ():
            mixed, fed = (TverskyProjection(n_embd, n_embd, feature_bank=head, **options) for _ in range(2))
            block.attn.c_proj = mixed
            block.mlp = nn.Sequential(fed, nn.Dropout(drop_rate))
    model = TverskyGPT2(transformer, head)
    model._model_args = {**sizes, "num_features": num_features, "tied": tied, "everywhere": everywhere, **options}
    return model if dtype is None else model.to(dtype)


def _gpt2(sizes: dict[str, int], drop_rate: float) -> Any:
    try:
        from transformers import GPT2Config, GPT2Model
    except ImportError as error:
        raise MissingExtraError("a GPT-2 with Tversky projections", "transformers", "text") from error
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), drop_rate)
    # GPT-2's own tokens of beginning and end need not be in the vocabulary; the transformer does not look for them.
    return GPT2Model(GPT2Config(**sizes, **rates, bos_token_id=None, eos_token_id=None))  # pyright: ignore
