"""Block tables and slot mappings as decoding sees them after pruning."""

from attention_backend.ops.virtualise.reference import virtualise_block_table, virtualise_slot_mapping

__all__ = ["virtualise_block_table", "virtualise_slot_mapping"]
