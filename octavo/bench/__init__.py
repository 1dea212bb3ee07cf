"""Measuring speed and memory: cases, timing, bounds, records, figures."""
