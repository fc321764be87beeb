"""The training loop: callbacks, checkpoints, logs and progress."""
