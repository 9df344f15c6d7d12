"""Where the kept keys and values of a pruned prompt are stored."""

from attention_backend.ops.compact.reference import Removal, compact_slots, plan_removal

__all__ = ["Removal", "compact_slots", "plan_removal"]
