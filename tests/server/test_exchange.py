"""The request-scoped state, across tasks and streams."""

import asyncio

from server.exchange import Exchange, ReportSlot, current_exchange, entered, stream_within


async def exchanges_seen():
    for _ in range(3):
        await asyncio.sleep(0)
        yield current_exchange()


def test_nothing_is_current_outside_a_block():
    exchange = Exchange(0.9)
    with entered(exchange):
        assert current_exchange() is exchange
    assert current_exchange() is None


def test_a_stream_sees_its_exchange_and_nobody_else_does():
    async def run():
        exchange = Exchange(0.9)
        async for seen in stream_within(exchange, exchanges_seen()):
            assert seen is exchange
            assert current_exchange() is None

    asyncio.run(run())


def test_each_step_of_a_stream_may_run_in_another_task():
    """As vLLM's `--sse-keep-alive-interval` runs them."""

    async def run():
        exchange = Exchange(0.9)
        stream = stream_within(exchange, exchanges_seen())
        assert [await asyncio.create_task(anext(stream)) for _ in range(3)] == [exchange] * 3

    asyncio.run(run())


def test_interleaved_requests_keep_apart():
    async def request(sparsity_p):
        return [seen.sparsity_p async for seen in stream_within(Exchange(sparsity_p), exchanges_seen())]

    async def run():
        return await asyncio.gather(request(0.5), request(0.9))

    assert asyncio.run(run()) == [[0.5] * 3, [0.9] * 3]


def test_closing_closes_the_inner_stream():
    closed = []

    async def inner():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def run():
        stream = stream_within(Exchange(0.9), inner())
        await anext(stream)
        await stream.aclose()

    asyncio.run(run())
    assert closed == [True]


def test_reports_keep_the_order_of_prompts(make_report):
    first, second = make_report(sparsity_p=0.5), make_report(sparsity_p=0.6)
    exchange = Exchange(0.9, slots=[ReportSlot(first), ReportSlot(), ReportSlot(second)])
    assert exchange.reports == [first, second]
