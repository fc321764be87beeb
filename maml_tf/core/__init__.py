"""The engine: inner updates, meta-gradients and the compiled meta-step."""
