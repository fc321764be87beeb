"""Adaptation for deployment; start at saved_model.py."""
