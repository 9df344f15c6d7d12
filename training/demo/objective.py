"""What the demo model learns from: the answers, and (as a help early on) what each visual token shows."""

import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from .forward import Outputs, packed_forward
from .glyphs import GLYPH_NAMES
from .packing import Batch
from .streams import SIZES
from .words import COLORS

CELL_LOSS_WEIGHT = 0.5
EMPTY_CELL_WEIGHT = 0.1
"""Nearly all cells are empty; unweighted they would drown the others."""


class CellReader(torch.nn.Module):
    """Linear classifiers on the visual tokens, for training only.

    Out of the vision tower they read glyph and colour. Halfway through the language model they read which picture or
    moment a cell belongs to: no question can be answered with that until the cells know it, so the answers alone teach
    it very slowly.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.glyph = torch.nn.Linear(hidden_size, 1 + len(GLYPH_NAMES))
        self.color = torch.nn.Linear(hidden_size, 1 + len(COLORS))
        self.plane = torch.nn.Linear(hidden_size, max(size.num_pictures * size.num_steps for size in SIZES))

    def loss(self, outputs: Outputs, cell_labels: torch.Tensor) -> torch.Tensor:
        """Sum of the cross entropies; `cell_labels` is `[num_visual_tokens, 3]` as `media.cell_labels` makes it."""
        glyph, color, plane = cell_labels.unbind(1)
        total = F.cross_entropy(self.plane(outputs.halfway).float(), plane)
        for head, labels in ((self.glyph, glyph), (self.color, color)):
            weight = torch.ones(head.out_features)
            weight[0] = EMPTY_CELL_WEIGHT
            total = total + F.cross_entropy(head(outputs.visual).float(), labels, weight)
        return total


def training_loss(
    model: Qwen2_5_VLForConditionalGeneration, reader: CellReader, batch: Batch
) -> dict[str, torch.Tensor]:
    """`total`, and its parts `answer` and `cell`, under bf16 autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        outputs = packed_forward(model, batch)
        answer = F.cross_entropy(outputs.logits.float(), batch.targets)
        cell = reader.loss(outputs, batch.cell_labels)
    return {"total": answer + CELL_LOSS_WEIGHT * cell, "answer": answer, "cell": cell}
