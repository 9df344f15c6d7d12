"""The block tables on CPU, one for each layer: slot mappings of all of them from one look at the batch."""

import numpy as np
import torch
from vllm.v1.attention.backends.utils import PAD_SLOT_ID
from vllm.v1.worker.block_table import MultiGroupBlockTable


class TopPBlockTables(MultiGroupBlockTable):
    """vLLM's tables, without the cost of one kernel launch for each layer.

    All layers share a block size and the tokens of the batch; only the numbers of the blocks differ. On CPU vLLM's
    launch costs more than the work behind it.
    """

    @classmethod
    def take_over(cls, block_tables: MultiGroupBlockTable) -> None:
        """Turn the tables that vLLM's runner built for itself into these; the class adds no constructor state."""
        assert type(block_tables) is MultiGroupBlockTable
        block_tables.__class__ = cls

    def compute_slot_mapping(self, num_reqs: int, query_start_loc: torch.Tensor, positions: torch.Tensor) -> None:
        """Where every token of the batch is written, for each layer; unused slots are padded.

        Args:
            num_reqs: requests in the batch.
            query_start_loc: first token of every request, [num_reqs + 1], int32.
            positions: of every token, [num_tokens], int64.
        """
        block_size = self.block_tables[0].block_size
        starts = query_start_loc[: num_reqs + 1].numpy()
        num_tokens = int(starts[-1])
        # [num_tokens]
        rows = np.arange(num_reqs).repeat(np.diff(starts))
        blocks, offsets = np.divmod(positions[:num_tokens].numpy(), block_size)
        for table in self.block_tables:
            slots = table.slot_mapping.gpu.numpy()
            slots[num_tokens:] = PAD_SLOT_ID
            np.multiply(table.block_table.gpu.numpy()[rows, blocks], block_size, out=slots[:num_tokens], dtype=np.int64)
            slots[:num_tokens] += offsets
