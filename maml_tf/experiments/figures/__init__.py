"""Figures of the experiments, as PNG files."""
