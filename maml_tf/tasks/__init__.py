"""Streams of tasks: the paper's, and those of a user's own data."""
