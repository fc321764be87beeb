"""A user's own model on a user's own tasks; start at learner.py."""
