"""Top-p sparse attention with explicit dense masks, on transformers' Qwen2.5-VL: what the engine must agree with.

Written from docs/algorithm.md alone; it shares no code with `attention_backend`. Prompt and continuation run through
the model in one teacher-forced pass; every layer builds an L x L matrix that says who sees whom.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION_NAME = "winnow_dense_mask"

ProbeRule = Callable[[int, int], Sequence[int] | torch.Tensor]
"""(number of prompt tokens, layer index) -> positions of the probe rows."""


def all_rows(num_tokens: int, layer_index: int) -> Sequence[int]:
    """The exact probe rule: every prompt row is a probe."""
    return range(num_tokens)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one request is pruned.

    Attributes:
        sparsity_p: share of the probes' attention mass in (0, 1]; 1 is dense.
        selection: "zipvl" (selected rows attend selected keys) or "keys" (every row attends selected keys).
        probe_positions: which prompt rows are probes, for a prompt length and a layer.
        num_recent_tokens: last prompt tokens that are always kept.
        num_sink_tokens: first prompt tokens that are always kept.
        kept: kept positions per layer, to skip selection and check attention alone.
    """

    sparsity_p: float = 1.0
    selection: str = "zipvl"
    probe_positions: ProbeRule = all_rows
    num_recent_tokens: int = 4
    num_sink_tokens: int = 0
    kept: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class LayerSelection:
    """What one layer selected.

    Attributes:
        kept: ascending positions, [k].
        mass: a_j, [L], float64.
        score: s_j = a_j / #{probes at position >= j}, [L], float64.
    """

    kept: torch.Tensor
    mass: torch.Tensor
    score: torch.Tensor

    def margin(self, rule: Rule) -> float:
        """Relative change of a mass or score that could have changed `kept`.

        Two implementations of the same arithmetic agree on the kept set only where this is well above their rounding
        error.
        """
        covered = self.mass.sort(descending=True).values.cumsum(0) / self.mass.sum()
        num_kept = len(self.kept)
        edges = [abs(float(covered[k - 1]) - rule.sparsity_p) for k in (num_kept - 1, num_kept) if k > 0]
        is_kept = torch.zeros(len(self.mass), dtype=torch.bool)
        is_kept[self.kept] = True
        free = is_kept & ~forced_mask(len(self.mass), rule)
        if free.any() and not is_kept.all():
            lowest_kept, highest_left = float(self.score[free].min()), float(self.score[~is_kept].max())
            edges.append((lowest_kept - highest_left) / lowest_kept)
        return min(edges)


@dataclass(frozen=True, slots=True)
class Forced:
    """A teacher-forced run.

    Attributes:
        logprobs: log-probability of each continuation token, [n], float32.
        top_tokens: most likely token at each continuation position, [n].
        layers: the selection of every layer.
    """

    logprobs: torch.Tensor
    top_tokens: torch.Tensor
    layers: list[LayerSelection]

    @property
    def kept_tokens_per_layer(self) -> list[int]:
        return [len(layer.kept) for layer in self.layers]


def forced_mask(num_tokens: int, rule: Rule) -> torch.Tensor:
    """Tokens that are kept whatever their score, [num_tokens], bool."""
    position = torch.arange(num_tokens)
    return (position < rule.num_sink_tokens) | (position >= num_tokens - rule.num_recent_tokens)


def attention_probabilities(
    query: torch.Tensor, key: torch.Tensor, visible: torch.Tensor, scale: float
) -> torch.Tensor:
    """Softmax over the visible keys; rows that see none are 0.

    Args:
        query: [heads, rows, head_size].
        key: [heads, columns, head_size].
        visible: [rows, columns], bool.
        scale: softmax scale.

    Returns:
        [heads, rows, columns], float32.
    """
    logits = (query.float() @ key.float().transpose(1, 2)) * scale
    logits = logits.masked_fill(~visible, float("-inf"))
    return logits.softmax(dim=-1).nan_to_num(0.0)


def select(query: torch.Tensor, key: torch.Tensor, scale: float, layer_index: int, rule: Rule) -> LayerSelection:
    """Importance and kept set of one layer's prompt (ZipVL eq. 6 to 8).

    Args:
        query: prompt queries after rotary embedding, [heads, L, head_size].
        key: prompt keys after rotary embedding, repeated to the query heads, [heads, L, head_size].
    """
    num_tokens = query.shape[1]
    position = torch.arange(num_tokens)
    probes = torch.as_tensor(list(rule.probe_positions(num_tokens, layer_index)))
    causal = position[None, :] <= probes[:, None]
    mass = attention_probabilities(query[:, probes], key, causal, scale).mean(dim=0).double().sum(dim=0)
    seen_by = (probes[:, None] >= position[None, :]).sum(dim=0)
    score = mass / seen_by

    if rule.kept is not None:
        return LayerSelection(torch.as_tensor(rule.kept[layer_index]), mass, score)
    forced = forced_mask(num_tokens, rule)
    num_kept = num_tokens
    if rule.sparsity_p < 1.0:
        num_kept, covered = 0, 0.0
        for value in mass.sort(descending=True).values.tolist():
            num_kept, covered = num_kept + 1, covered + value
            if covered >= rule.sparsity_p * float(mass.sum()):
                break
    num_kept = max(num_kept, int(forced.sum()))
    # Forced tokens first, then by falling score, then by position.
    order = sorted(range(num_tokens), key=lambda j: (not forced[j], -float(score[j]), j))
    return LayerSelection(torch.tensor(sorted(order[:num_kept])), mass, score)


def visibility(num_tokens: int, num_prompt_tokens: int, kept: torch.Tensor, selection: str) -> torch.Tensor:
    """Which row sees which column: continuation rows see the kept prompt tokens and all that was generated.

    Returns:
        [num_tokens, num_tokens], bool.
    """
    position = torch.arange(num_tokens)
    stays = position >= num_prompt_tokens
    stays[kept] = True
    visible = (position[None, :] <= position[:, None]) & stays[None, :]
    if selection == "zipvl":
        visible &= stays[:, None]
    elif selection != "keys":
        raise ValueError(f"selection is {selection!r}, but must be 'zipvl' or 'keys'.")
    return visible


@contextmanager
def _attention(model: Qwen2_5_VLForConditionalGeneration, function: Callable):
    """Runs the language model's attention through `function`; the vision tower keeps its own."""
    config = model.model.language_model.config
    before = config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, function)
    config._attn_implementation = ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.inference_mode()
def teacher_forced(
    model: Qwen2_5_VLForConditionalGeneration,
    prompt_token_ids: Sequence[int],
    continuation_token_ids: Sequence[int],
    rule: Rule,
    **media,
) -> Forced:
    """Log-probabilities of a continuation when the prompt is pruned by `rule`.

    Args:
        model: loaded in float32.
        prompt_token_ids: with its image or video placeholder tokens expanded, as the processor gives it.
        continuation_token_ids: tokens to score, at least one.
        rule: how to prune.
        media: what the processor gives beside the token ids (`pixel_values`, `mm_token_type_ids`, ...).
    """
    num_prompt_tokens = len(prompt_token_ids)
    layers: list[LayerSelection] = []

    def attend(module, query, key, value, attention_mask, scaling, **kwargs):
        query, key, value = (
            tensor[0].repeat_interleave(query.shape[1] // tensor.shape[1], dim=0) for tensor in (query, key, value)
        )
        prompt = slice(0, num_prompt_tokens)
        layer = select(query[:, prompt], key[:, prompt], scaling, module.layer_idx, rule)
        layers.append(layer)
        visible = visibility(query.shape[1], num_prompt_tokens, layer.kept, rule.selection)
        output = attention_probabilities(query, key, visible, scaling) @ value.float()
        # [1, num_tokens, heads, head_size]
        return output.transpose(0, 1)[None].to(query.dtype), None

    continuation = torch.tensor(list(continuation_token_ids))
    input_ids = torch.cat([torch.tensor(list(prompt_token_ids)), continuation])[None]
    if "mm_token_type_ids" in media:
        types = media["mm_token_type_ids"]
        media["mm_token_type_ids"] = torch.cat([types, types.new_zeros(1, len(continuation))], dim=1)
    with _attention(model, attend):
        model.model.rope_deltas = None
        logits = model(input_ids=input_ids, use_cache=False, **media).logits[0, num_prompt_tokens - 1 : -1].float()
    logprobs = logits.log_softmax(dim=-1)
    return Forced(logprobs.gather(1, continuation[:, None])[:, 0], logprobs.argmax(dim=-1), layers)
