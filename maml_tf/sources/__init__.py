"""Tasks drawn from users' data; start at tasks_from.py."""
