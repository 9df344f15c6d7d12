"""What the demo model learns from: the answers, and (as a help early on) what each visual token shows."""

import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from .forward import answer_logits
from .glyphs import GLYPH_NAMES
from .packing import Batch
from .words import COLORS

CELL_LOSS_WEIGHT = 0.5
EMPTY_CELL_WEIGHT = 0.1
"""Nearly all cells are empty; unweighted they would drown the others."""


class CellReader(torch.nn.Module):
    """Two linear classifiers on the visual embeddings, for training only: which glyph and which colour."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.glyph = torch.nn.Linear(hidden_size, 1 + len(GLYPH_NAMES))
        self.color = torch.nn.Linear(hidden_size, 1 + len(COLORS))

    def loss(self, visual: torch.Tensor, cell_labels: torch.Tensor) -> torch.Tensor:
        """Sum of both cross entropies; `visual` is `[num_visual_tokens, hidden]`, labels `[num_visual_tokens, 2]`."""
        total = visual.new_zeros((), dtype=torch.float32)
        for head, labels in ((self.glyph, cell_labels[:, 0]), (self.color, cell_labels[:, 1])):
            weight = torch.ones(head.out_features)
            weight[0] = EMPTY_CELL_WEIGHT
            total = total + F.cross_entropy(head(visual).float(), labels, weight)
        return total


def training_loss(
    model: Qwen2_5_VLForConditionalGeneration, reader: CellReader, batch: Batch
) -> dict[str, torch.Tensor]:
    """`total`, and its parts `answer` and `cell`, under bf16 autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        logits, visual = answer_logits(model, batch)
        answer = F.cross_entropy(logits.float(), batch.targets)
        cell = reader.loss(visual, batch.cell_labels)
    return {"total": answer + CELL_LOSS_WEIGHT * cell, "answer": answer, "cell": cell}
