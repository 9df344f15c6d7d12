"""Write what a pruning engine in processes of its own answers: `pruned_vllm.py OUT.json '{"option": ...}'`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.harness import ENGINE_OPTIONS, PROMPTS, Ask, report_of, tokens_of


def main() -> None:
    from vllm import LLM

    from attention_backend import engine_args

    llm = LLM(**engine_args(**(ENGINE_OPTIONS | {"enable_prefix_caching": False} | json.loads(sys.argv[2]))))
    answers = {}
    for name, prompt in PROMPTS.items():
        ask = Ask(prompt, 0.8, {"extra_args": {"winnow_return_kept": True}})
        output = llm.generate([prompt], ask.sampling_params(), use_tqdm=False)[0]
        answers[name] = {
            "token_ids": tokens_of(output),
            "kept": report_of(output).kept_tokens_per_layer,
            "mask": report_of(output).unpacked_mask().tolist(),
            "logprobs": [next(iter(step.values())).logprob for step in output.outputs[0].logprobs],
        }
    printed = {"status": llm.collective_rpc("winnow_status"), "answers": answers}
    Path(sys.argv[1]).write_text(json.dumps(printed))


if __name__ == "__main__":
    main()
