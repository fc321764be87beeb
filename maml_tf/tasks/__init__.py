"""Streams of tasks: the paper's, and those from a user's own data."""
