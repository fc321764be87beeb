"""Meta-learning for a user's own model and tasks; start at learner.py."""
