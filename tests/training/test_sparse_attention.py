"""The sparse attention of training: it selects as the reference says, and one path computes what the other does."""

import pytest
import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.estimate import probe_positions
from tests.reference.dense_mask import Rule, teacher_forced
from training.objective import TERMS, SparsityTerm
from training.row_media import VisionFeatures, batch_fields, batch_token_types, fill_placeholders, process_prompt
from training.sparse_attention import SparseAttention, SparseRows

from .grpo_harness import IMAGE, LARGE, PICTURES, VIDEO, load_model, load_processor, small_rows

CONFIG = SparsityConfig()


@pytest.fixture(scope="module")
def processor():
    return load_processor()


@pytest.fixture
def model():
    return load_model().eval()


def prompts(processor, *sizes):
    """The processed prompts of small rows."""
    rows = small_rows(sizes)
    return [
        process_prompt(processor, fill_placeholders(row["prompt"], row["images"], row["videos"]), {})
        for row in (rows[index] for index in range(len(sizes)))
    ]


def batch(media, completions):
    """A left-padded batch with completions of equal length: forward arguments and the prompts' mask."""
    width = max(len(row.prompt_ids) for row in media)
    ids = torch.zeros(len(media), width + len(completions[0]), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, (row, completion) in enumerate(zip(media, completions, strict=True)):
        first = width - len(row.prompt_ids)
        ids[index, first:] = torch.tensor([*row.prompt_ids, *completion])
        mask[index, first:] = 1
    fields = batch_fields(media, ids.device)
    fields["mm_token_type_ids"] = batch_token_types(media, width, ids.shape[1], ids.device)
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False, **fields}, mask[:, :width].bool()


@torch.no_grad()
def generate(model, attention, media, sparsity_p, **kwargs):
    """Greedy tokens, what was kept, and the logits of each step."""
    inputs, mask = batch(media, [[]] * len(media))
    inputs.pop("use_cache")
    rows = SparseRows(sparsity_p)
    with attention.activate(rows):
        output = model.generate(
            **inputs,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            **kwargs,
        )
    rows.freeze()
    assert torch.equal(rows.prompt_mask, mask)
    return output.sequences[:, mask.shape[1] :], rows, torch.stack(output.logits, dim=1)


@pytest.mark.parametrize("size", [IMAGE, LARGE, PICTURES, VIDEO], ids=repr)
@pytest.mark.parametrize("selection", ["zipvl", "keys"])
def test_selection_and_log_probabilities_are_those_of_the_reference(model, processor, size, selection):
    """The reference is the one that the serving backend is tested against, too."""
    media = prompts(processor, size)
    continuation = [5, 6, 7]
    rule = Rule(
        sparsity_p=0.9,
        selection=selection,
        probe_positions=lambda length, layer: probe_positions(length, layer, CONFIG),
    )
    fields = {**media[0].fields, "mm_token_type_ids": media[0].token_types[None]}
    expected = teacher_forced(model, media[0].prompt_ids, continuation, rule, **fields)

    attention = SparseAttention(model, SparsityConfig(selection=selection))
    inputs, mask = batch(media, [continuation])
    rows = SparseRows([0.9], prompt_mask=mask)
    with torch.no_grad(), attention.activate(rows):
        logits = model(**inputs).logits
    rows.freeze()
    kept = [layer[0].nonzero()[:, 0].tolist() for layer in rows.kept.unbind(1)]
    assert kept == [layer.kept.tolist() for layer in expected.layers]
    logprobs = logits[0, -4:-1].log_softmax(-1).gather(1, torch.tensor(continuation)[:, None])[:, 0]
    torch.testing.assert_close(logprobs, expected.logprobs, rtol=0, atol=1e-4)


def test_padding_changes_neither_the_kept_set_nor_the_answer(model, processor):
    media = prompts(processor, IMAGE, LARGE, VIDEO)
    attention = SparseAttention(model)
    tokens, rows, _ = generate(model, attention, media, [0.9, 0.95, 0.8])
    for index, row in enumerate(media):
        alone_tokens, alone, _ = generate(model, attention, [row], [rows.sparsity_p[index]])
        assert torch.equal(rows.kept[index, :, rows.prompt_mask[index]], alone.kept[0])
        assert not rows.kept[index, :, ~rows.prompt_mask[index]].any()
        assert torch.equal(tokens[index], alone_tokens[0])


def test_decoding_on_the_pruned_cache_equals_teacher_forcing_under_replay(model, processor):
    media = prompts(processor, IMAGE, LARGE, VIDEO, PICTURES)
    attention = SparseAttention(model)
    sparsity_p = [0.95, 0.7, 1.0, 0.85]
    tokens, rows, step_logits = generate(model, attention, media, sparsity_p)
    inputs, mask = batch(media, tokens.tolist())
    with torch.no_grad(), attention.activate(SparseRows(sparsity_p, mask, rows.kept)):
        logits = model(**inputs).logits[:, -5:-1]
    torch.testing.assert_close(logits.log_softmax(-1), step_logits.log_softmax(-1), rtol=0, atol=1e-4)


def test_the_pruned_cache_stores_only_what_a_row_of_the_batch_keeps(model, processor):
    media = prompts(processor, LARGE, LARGE)
    attention = SparseAttention(model)
    caches = []
    language_model = model.get_decoder()
    language_model.register_forward_hook(
        lambda module, args, kwargs, output: caches.append(output.past_key_values), with_kwargs=True
    )
    _, rows, _ = generate(model, attention, media, [0.7, 0.6])
    num_generated = 3
    for layer, kept in zip(caches[-1].layers, rows.kept.unbind(1), strict=True):
        assert layer.keys.shape[2] == int(kept.sum(1).max()) + num_generated
        assert layer.get_seq_length() == len(media[0].prompt_ids) + num_generated


@pytest.mark.parametrize("mixed", [False, True], ids=["all rows dense", "beside a sparse row"])
def test_p_1_is_exactly_the_dense_model(model, processor, mixed):
    media = prompts(processor, IMAGE, LARGE, VIDEO)
    inputs, mask = batch(media, [[5, 6]] * 3)
    dense = load_model().eval()
    attention = SparseAttention(model)
    sparsity_p = [1.0, 0.8 if mixed else 1.0, 1.0]
    with torch.no_grad(), attention.activate(SparseRows(sparsity_p, prompt_mask=mask)):
        sparse_logits = model(**inputs).logits
    with torch.no_grad():
        dense_logits = dense(**inputs).logits
    is_token = inputs["attention_mask"].bool()
    for row in [0, 2] if mixed else [0, 1, 2]:
        assert torch.equal(sparse_logits[row, is_token[row]], dense_logits[row, is_token[row]])
    if mixed:
        assert not torch.allclose(sparse_logits[1], dense_logits[1], atol=1e-3)


def test_the_switch_leaves_a_dense_model_behind(model, processor):
    inputs, mask = batch(prompts(processor, IMAGE), [[5, 6]])
    attention = SparseAttention(model)
    with torch.no_grad():
        before = model(**inputs).logits
        with attention.activate(SparseRows([0.6], prompt_mask=mask)):
            inside = model(**inputs).logits
        after = model(**inputs).logits
    assert torch.equal(before, after)
    assert not torch.allclose(before, inside, atol=1e-3)


CHECKPOINTING = {"off": None, "non-reentrant": {"use_reentrant": False}, "reentrant": {"use_reentrant": True}}


@pytest.mark.parametrize("kind", TERMS)
def test_gradients_do_not_depend_on_gradient_checkpointing(processor, kind):
    media = prompts(processor, IMAGE, LARGE)
    inputs, mask = batch(media, [[5, 6], [7, 8]])
    gradients, values = {}, {}
    replay = None
    for name, checkpointing in CHECKPOINTING.items():
        model = load_model().train()
        attention = SparseAttention(model)
        if replay is None:
            recorded = SparseRows([0.9, 0.8], prompt_mask=mask)
            with torch.no_grad(), attention.activate(recorded):
                model(**inputs)
            recorded.freeze()
            replay = recorded.kept
        if checkpointing is not None:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable(checkpointing)
        rows = SparseRows([0.9, 0.8], mask, replay)
        if kind != "none":
            rows.term = SparsityTerm(
                {part: [1.0, -2.0] for part in TERMS[kind]}, model.config.text_config.num_hidden_layers
            )
        with attention.activate(rows):
            loss = model(**inputs).logits[:, -2:].log_softmax(-1)[..., 5].sum()
        loss = rows.term.join(loss) if rows.term else loss
        loss.backward()
        layers = model.get_decoder().layers.named_parameters()
        gradients[name] = {key: value.grad for key, value in layers if value.grad is not None}
        values[name] = loss.item()
    assert "0.self_attn.q_proj.weight" in gradients["off"]
    for name in ("non-reentrant", "reentrant"):
        assert gradients[name].keys() == gradients["off"].keys()
        for key, expected in gradients["off"].items():
            torch.testing.assert_close(gradients[name][key], expected, rtol=1e-4, atol=1e-6)
    assert values["non-reentrant"] == pytest.approx(values["off"], rel=1e-6)


def test_features_of_a_frozen_tower_stand_for_its_pixels(model, processor):
    from training.row_media import with_features

    media = prompts(processor, IMAGE, VIDEO, PICTURES)
    attention, features = SparseAttention(model), VisionFeatures(model)
    pixels_tokens, pixels, _ = generate(model, attention, media, [0.9] * 3)
    encoded = [with_features(row, model) for row in media]
    assert not any("pixel" in name for row in encoded for name in row.fields)
    inputs, mask = batch(encoded, [[]] * 3)
    inputs = {name: value for name, value in inputs.items() if name not in ("mm_encoder_outputs", "use_cache")}
    rows = SparseRows([0.9] * 3)
    with torch.no_grad(), attention.activate(rows), features.use(encoded):
        tokens = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    rows.freeze()
    assert torch.equal(tokens[:, mask.shape[1] :], pixels_tokens)
    assert torch.equal(rows.kept, pixels.kept)
    with torch.no_grad():
        first = [model(**batch(part, [[5]] * 3)[0]).logits for part in (media, encoded)]
    torch.testing.assert_close(*first, rtol=0, atol=1e-5)
