"""One HTTP request on its way: the `sparsity_p` it asked for and the reports of the engine requests it started.

vLLM's serving classes call the engine deep inside their own code, with no argument that we could pass along, so the
exchange travels in a context variable, the standard library's tool for request-scoped state.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from attention_backend import SparsityReport

Item = TypeVar("Item")


@dataclass(slots=True)
class ReportSlot:
    """Holds the newest report of one prompt; the sequences of `n > 1` share it, because they prune alike.

    Attributes:
        report: None until it arrives.
        request_id: of the HTTP request that the prompt came with; None for the server's own.
    """

    report: SparsityReport | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one HTTP request asked for and what came back.

    Attributes:
        sparsity_p: checked, with the server's default filled in.
        alias: the model name that chose it, to answer with; None where the request named a model itself.
        collects_reports: False for beam search, whose many engine requests say nothing about the one that was sent.
        slots: one for every prompt given to the engine, in order.
    """

    sparsity_p: float
    alias: str | None = None
    collects_reports: bool = True
    slots: list[ReportSlot] = field(default_factory=list)

    @property
    def reports(self) -> list[SparsityReport]:
        """Those that have arrived, in the order of the prompts."""
        return [slot.report for slot in self.slots if slot.report is not None]


_current: ContextVar[Exchange | None] = ContextVar("winnow_exchange", default=None)


def current_exchange() -> Exchange | None:
    """The exchange that the running code works for; None outside the routes that know `sparsity_p`."""
    return _current.get()


@contextmanager
def entered(exchange: Exchange) -> Iterator[None]:
    """Make `exchange` the current one within the block."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


async def stream_within(exchange: Exchange, stream: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
    """Pass a stream through while `exchange` is current inside it.

    Each step enters anew: a stream's steps may run in other tasks than the one that made it.
    """
    try:
        while True:
            try:
                with entered(exchange):
                    item = await anext(stream)
            except StopAsyncIteration:
                return
            yield item
    finally:
        await stream.aclose()
