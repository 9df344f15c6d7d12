"""What requests may hand to a chat template: its own variables, and no arguments of the tokenizer behind it.

vLLM passes `chat_template_kwargs` on to transformers' `apply_chat_template`, which knows both. With `padding` and
`max_length` a request of a hundred bytes fills the memory with padding, before any limit on prompts is looked at.
"""

from pydantic import BaseModel

from server.errors import RequestRefused

FIELD = "chat_template_kwargs"
OF_THE_TOKENIZER = (
    "padding",
    "truncation",
    "max_length",
    "tokenize",
    "tokenizer_kwargs",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
)


def refuse_tokenizer_arguments(request: BaseModel) -> None:
    """Refuse a request that would change how its prompt is tokenized.

    Args:
        request: one of vLLM's request models.

    Raises:
        RequestRefused: `chat_template_kwargs` holds an argument of the tokenizer.
    """
    arguments = vars(request).get(FIELD) or (request.model_extra or {}).get(FIELD)
    for name in OF_THE_TOKENIZER:
        if isinstance(arguments, dict) and name in arguments:
            raise RequestRefused(
                f"{FIELD} holds {name}, but that is an argument of the tokenizer and no variable of a chat template. "
                "Leave it out.",
                param=FIELD,
            )
