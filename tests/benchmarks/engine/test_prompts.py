"""Prompts are the same for every engine, and no cache can tell that one comes again."""

from itertools import count

from benchmarks.engine.prompts import Prompt, QuestionPrompts, RandomPrompts
from benchmarks.engine.scenes import CONTEXTS, SCENES, max_prompt_tokens


def rendered(index):
    content = {"prompt_token_ids": [index] * (10 + index), "mm_hashes": {"image": [f"picture {index}"]}}
    return Prompt(content, f"answer {index}")


def test_random_prompts_differ_and_come_again_with_the_seed():
    first, again, other = (RandomPrompts(12, seed, count()).take(3) for seed in (1, 1, 2))
    assert first == again
    assert len({tuple(prompt.content["prompt_token_ids"]) for prompt in first + other}) == 6
    assert all(len(prompt.content["prompt_token_ids"]) == 12 for prompt in first)


def test_questions_come_in_turn_under_new_names():
    uses = count()
    stream = QuestionPrompts([rendered(0), rendered(1)], 20, uses)
    taken = stream.take(2) + stream.take(1)
    assert [prompt.answer for prompt in taken] == ["answer 0", "answer 1", "answer 0"]
    assert stream.mean_tokens == 10.5
    # Another stream of the same engine begins with the first question again.
    taken += QuestionPrompts([rendered(0)], 20, uses).take(1)
    assert taken[-1].content["prompt_token_ids"] == taken[0].content["prompt_token_ids"]
    names = [prompt.content["mm_hashes"]["image"][0] for prompt in taken]
    assert len(set(names)) == 4
    assert all(name.startswith(f"picture {prompt.answer[-1]}-") for name, prompt in zip(names, taken, strict=True))


def test_long_prompts_have_a_thousand_visual_tokens_and_contexts_grow():
    assert all(size.num_visual_tokens >= 1000 for name in ("pictures", "video") for size in SCENES[name])
    tokens = [max_prompt_tokens(name) for name in CONTEXTS]
    assert tokens == sorted(tokens)
    assert (tokens[0], tokens[-1]) == (64 + 48, 4096 + 48)
