"""Frozen configuration without torch: model, presets, counts, hardware, errors."""
