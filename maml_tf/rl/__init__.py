"""Meta-reinforcement learning: section 5.3 of the paper."""
