"""Losses and metrics as users name them, and what targets they take."""
