"""Environments of the paper's meta-reinforcement learning."""
