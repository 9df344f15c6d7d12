"""Write what stock vLLM answers to every prompt of the harness, alone and in one batch: `stock_vllm.py OUT.json`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.harness import ENGINE_OPTIONS, PROMPTS, Ask, tokens_of


def main() -> None:
    from vllm import LLM
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    llm = LLM(**ENGINE_OPTIONS, enable_prefix_caching=False, enable_chunked_prefill=False)
    assert AttentionBackendEnum.CPU_ATTN.get_path().startswith("vllm."), "the plugin is loaded, so this is not stock"
    params = Ask(prompt={}).sampling_params()

    def answer(prompts):
        outputs = llm.generate(prompts, params, use_tqdm=False)
        return [
            {
                "token_ids": tokens_of(output),
                "logprobs": [next(iter(step.values())).logprob for step in output.outputs[0].logprobs],
            }
            for output in outputs
        ]

    alone = {name: answer([prompt])[0] for name, prompt in PROMPTS.items()}
    batch = dict(zip(PROMPTS, answer(list(PROMPTS.values())), strict=True))
    Path(sys.argv[1]).write_text(json.dumps({"alone": alone, "batch": batch}))


if __name__ == "__main__":
    main()
