"""Background responses: their work goes on behind the HTTP answer, and is limited as if it did not."""

import asyncio

from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses

from server.access.callers import current_caller


def limit_background(serving: OpenAIServingResponses, response_id: str, max_request_s: float) -> None:
    """Count a background response among its caller's requests until it is done, and cancel it when its time is over.

    Args:
        serving: which began it.
        response_id: its id.
        max_request_s: from now on.
    """
    task = serving.background_tasks.get(response_id)
    if task is None:
        return
    if (caller := current_caller()) is not None:
        task.add_done_callback(caller.allowance.hold())
    expiry = asyncio.create_task(_cancel_later(serving, response_id, max_request_s))
    task.add_done_callback(lambda _: expiry.cancel())


async def _cancel_later(serving: OpenAIServingResponses, response_id: str, max_request_s: float) -> None:
    """As its client may do at any time; whoever asks for it then reads "cancelled"."""
    await asyncio.sleep(max_request_s)
    # A task of its own: the end of the response ends this one.
    await asyncio.shield(OpenAIServingResponses.cancel_responses(serving, response_id))
