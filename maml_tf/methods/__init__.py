"""Methods of meta-learning: see method.py, and registry.py for the list."""
