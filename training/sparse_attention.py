"""Top-p sparse attention for transformers models: selects at rollout as serving does, replays the choice in training.

The selection itself is imported from `attention_backend.ops`. State reaches the layers as a keyword argument that a
forward pre-hook of the language model adds, so a layer that gradient checkpointing runs again sees what it saw before.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attention_backend.config import SparsityConfig
from attention_backend.ops.estimate import estimate_importance, probe_positions
from attention_backend.ops.select import forced_tokens, select_tokens
from attention_backend.request import token_ratio_of_keys

from .attend_rows import RowStates, attend_rows
from .objective import SparsityTerm
from .pruned_cache import use_pruned_layers

ATTENTION_NAME = "winnow_topp"


@dataclass(slots=True)
class SparseRows:
    """How the rows of one batch are pruned. Prompts are padded on the left to P columns, completions follow.

    Attributes:
        sparsity_p: share of the attention mass of each row; 1 is dense. [B]
        prompt_mask: prompt tokens, [B, P], bool. None in `generate`, which fills it in.
        kept: kept prompt tokens, [B, num_layers, P], bool; None selects them and records what was chosen.
        term: the differentiable sparsity term of these rows, if one is trained.
    """

    sparsity_p: Sequence[float]
    prompt_mask: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    term: SparsityTerm | None = None
    _selected: dict[int, torch.Tensor] = field(default_factory=dict)

    def __getitem__(self, rows: slice) -> "SparseRows":
        """Some of the rows, their masks replayed."""
        return SparseRows(self.sparsity_p[rows], self.prompt_mask[rows], self.kept[rows], self.term)

    def selected(self, layer_index: int) -> torch.Tensor:
        """What a layer recorded, [B, P]."""
        return self._selected[layer_index]

    def record(self, layer_index: int, kept: torch.Tensor) -> None:
        """Remember what a layer selected, [B, P]; by index, because a layer can run more than once."""
        self._selected[layer_index] = kept

    def freeze(self) -> None:
        """Turn what `generate` selected into masks to replay."""
        self.kept = torch.stack([self._selected[index] for index in sorted(self._selected)], dim=1)

    def token_ratios(self, selection: str = "zipvl") -> torch.Tensor:
        """(queries + keys that are kept) / (2 x prompt tokens), averaged over layers, as the server reports it.

        [B], float32. In mode "keys" every query is computed.
        """
        key_ratios = self.kept.sum(dim=(1, 2)) / (self.kept.shape[1] * self.prompt_mask.sum(dim=1))
        return token_ratio_of_keys(key_ratios, selection)


@dataclass(frozen=True, slots=True)
class LayerCall:
    """What the pre-hook hands to every layer of one forward pass."""

    rows: SparseRows
    config: SparsityConfig
    cache: Cache | None
    is_decoding: bool


class SparseAttention:
    """Switches a model between dense attention (the default) and Top-p attention (inside `activate`).

    Args:
        model: a vision-language model of transformers, not wrapped; its text layers must call
            `ALL_ATTENTION_FUNCTIONS` and pass keyword arguments on, as Qwen2-VL and Qwen2.5-VL do.
        config: the probe rule and forced tokens; must be those of the server.
    """

    def __init__(self, model: PreTrainedModel, config: SparsityConfig | None = None) -> None:
        register()
        self.config = config or SparsityConfig()
        self._rows: SparseRows | None = None
        language_model = model.get_decoder()
        language_model.config._attn_implementation = ATTENTION_NAME
        language_model.register_forward_pre_hook(self._add_layer_call, with_kwargs=True)

    @contextmanager
    def activate(self, rows: SparseRows | None) -> Iterator[None]:
        """Forward passes inside are pruned as `rows` say; None is dense."""
        before, self._rows = self._rows, rows
        try:
            yield
        finally:
            self._rows = before

    def _add_layer_call(self, module, args, kwargs):
        rows = self._rows
        if rows is None:
            return None
        cache = kwargs.get("past_key_values")
        is_decoding = cache is not None and cache.get_seq_length() > 0
        if cache is not None and not is_decoding:
            use_pruned_layers(cache)
        if rows.prompt_mask is None:
            rows.prompt_mask = _prompt_mask(kwargs)
        return args, {**kwargs, "sparsity": LayerCall(rows, self.config, cache, is_decoding)}


def _prompt_mask(kwargs: dict) -> torch.Tensor:
    """[B, P], bool; `generate` gives no mask where nothing is padded."""
    if kwargs.get("attention_mask") is not None:
        return kwargs["attention_mask"].bool()
    embeds = kwargs["inputs_embeds"]
    return torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)


def register() -> None:
    """Make the attention known to transformers; without a mask function of its own there would be no mask at all."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, topp_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, sdpa_mask)


def topp_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    sparsity: LayerCall | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """The attention interface of transformers.

    Args:
        module: the attention layer.
        query: [B, num_heads, num_tokens, head_size], after rotary embedding.
        key: [B, num_kv_heads, num_stored_tokens, head_size].
        value: like `key`.
        attention_mask: causal mask without padding, for dense rows.
        scaling: softmax scale.
        sparsity: from the pre-hook; None is dense.

    Returns:
        [B, num_tokens, num_heads, head_size], and None for the attention weights.
    """
    if sparsity is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if sparsity.is_decoding:
        # [B, 1, 1, num_slots]
        visible = sparsity.cache.layers[module.layer_idx].valid[:, None, None, :]
        return sdpa_attention_forward(module, query, key, value, visible, scaling=scaling, **kwargs)
    output = _prefill(module, query, key, value, attention_mask, scaling, sparsity, kwargs)
    if sparsity.cache is not None:
        sparsity.cache.layers[module.layer_idx].prune(sparsity.rows.selected(module.layer_idx))
    return output, None


def _prefill(module, query, key, value, attention_mask, scaling, sparsity: LayerCall, kwargs) -> torch.Tensor:
    rows, layer_index = sparsity.rows, module.layer_idx
    dense = [row for row, sparsity_p in enumerate(rows.sparsity_p) if sparsity_p >= 1.0]
    kept = rows.prompt_mask.clone() if rows.kept is None else rows.kept[:, layer_index]
    outputs: dict[int, torch.Tensor] = {}
    if dense:
        # Exactly the call that a dense model makes, for exactly these rows.
        mask = attention_mask if attention_mask is None or len(attention_mask) == 1 else attention_mask[dense]
        part = (tensor if len(dense) == len(kept) else tensor[dense] for tensor in (query, key, value))
        result = sdpa_attention_forward(module, *part, mask, scaling=scaling, **kwargs)[0]
        if len(dense) == len(kept):
            rows.record(layer_index, kept)
            return result
        outputs = dict(zip(dense, result, strict=True))
    pruned: dict[int, RowStates] = {}
    penalties = []
    for row, sparsity_p in enumerate(rows.sparsity_p):
        if sparsity_p >= 1.0:
            continue
        num_prompt_tokens = int(rows.prompt_mask[row].sum())
        first = rows.prompt_mask.shape[1] - num_prompt_tokens
        # [num_tokens, heads, head_size] without the padding
        own_query, own_key, own_value = (tensor[row, :, first:].transpose(0, 1) for tensor in (query, key, value))
        prompt = own_query[:num_prompt_tokens], own_key[:num_prompt_tokens]
        if rows.kept is None:
            chosen = _select(*prompt, sparsity_p, layer_index, scaling, sparsity.config)
            kept[row, first:] = False
            kept[row, first + chosen] = True
        else:
            chosen = kept[row, first:].nonzero()[:, 0]
        if rows.term is not None and torch.is_grad_enabled():
            mass = _mass(*prompt, layer_index, scaling, sparsity.config)
            penalties.append(rows.term.of_row(row, mass, chosen, sparsity_p))
        pruned[row] = RowStates(own_query, own_key, own_value, chosen, num_prompt_tokens)
    rows.record(layer_index, kept)
    attended = attend_rows(list(pruned.values()), scaling, sparsity.config.selection)
    for row, part in zip(pruned, attended, strict=True):
        outputs[row] = torch.nn.functional.pad(part, (0, 0, 0, 0, query.shape[2] - len(part), 0))
    output = torch.stack([outputs[row] for row in range(len(kept))])
    return rows.term.attach(output, layer_index, penalties) if penalties else output


@torch.no_grad()
def _select(query, key, sparsity_p: float, layer_index: int, scaling: float, config: SparsityConfig) -> torch.Tensor:
    """Kept positions of one prompt, ascending, [k]."""
    positions = probe_positions(len(key), layer_index, config).to(key.device)
    with torch.autocast(key.device.type, enabled=False):
        importance = estimate_importance(query[positions], key, positions, scaling)
    forced = forced_tokens(len(key), config, key.device)
    return select_tokens(importance.mass, importance.score, sparsity_p, forced)


def _mass(query, key, layer_index: int, scaling: float, config: SparsityConfig) -> torch.Tensor:
    """Attention mass of every prompt token as a differentiable function of the weights. [num_prompt_tokens]"""
    # The positions are cached, perhaps since an evaluation in inference mode, whose tensors know no gradient.
    positions = probe_positions(len(key), layer_index, config).clone().to(key.device)
    with torch.autocast(key.device.type, enabled=False):
        return estimate_importance(query[positions], key, positions, scaling).mass
