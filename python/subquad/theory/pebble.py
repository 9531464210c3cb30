"""Bounds of red-blue pebbling."""

from ._pebble_attention import attention_lower_bound, attention_trivial_bound, count_scores

__all__ = ["attention_lower_bound", "attention_trivial_bound", "count_scores"]
