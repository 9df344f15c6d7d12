"""A red check stops the case; the engines here answer what they are told."""

import pytest

from benchmarks.cpu.engines import Pair, check_pair
from benchmarks.errors import BenchmarkError


class Engine:
    """Answers every check with these rows, by value of sparsity_p."""

    name = "Winnow with model demo"

    def __init__(self, **rows):
        self.rows = {float(key.replace("p", "").replace("_", ".")): row for key, row in rows.items()}
        self.asked = []

    def measure(self, point):
        self.asked.append(point)
        tokens, held, reported = self.rows[point["sparsity_p"]]
        return {"token_ids": tokens, "held_blocks": held, "reported_blocks": reported}


STOCK = Engine(p1=([[1, 2], [3, 4]], [3, 3], [None, None]))
GOOD = ([[1, 2], [3, 4]], [12, 12], [12, 12])


def test_equal_tokens_and_blocks_pass():
    # Other tokens are what pruning may make; it must only report the blocks it holds.
    ours = Engine(p1=GOOD, p0_9=([[9, 9], [9, 9]], [5, 7], [5, 7]))
    check_pair(Pair(STOCK, ours), "pictures", 2, [0.9])
    assert [(point["sparsity_p"], point["count"], point["scenes"]) for point in ours.asked] == [
        (1.0, 2, "pictures"),
        (0.9, 2, "pictures"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(
            {"p1": ([[1, 2], [3, 5]], [12, 12], [12, 12])},
            r"differs from stock vLLM at sparsity_p = 1: \[3, 5\] against \[3, 4\] for prompt 1 \(pictures\)",
            id="tokens",
        ),
        pytest.param(
            {"p1": ([[1, 2], [3, 4]], [12, 11], [12, 12])}, "held and reported are 11 against 12", id="dense blocks"
        ),
        pytest.param(
            {"p1": GOOD, "p0_9": ([[9, 9], [9, 9]], [12, 7], [5, 7])},
            "at sparsity_p = 0.9: KV blocks held and reported are 12 against 5 for prompt 0",
            id="sparse blocks",
        ),
    ],
)
def test_a_red_check_is_one_line(rows, message):
    with pytest.raises(BenchmarkError, match=message):
        check_pair(Pair(STOCK, Engine(**rows)), "pictures", 2, [0.9])
