"""Keras layers that are exact to the second derivative, and fast."""
