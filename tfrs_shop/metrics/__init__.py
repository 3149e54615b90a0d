"""Metrics in plain NumPy: numbers in, numbers out, no model and no files. ``docs/evaluation.md`` has the formulas."""
