"""Settings that belong together, by name."""

from collections.abc import Callable
from typing import Any

from maml_tf.errors import ConfigError


def _omniglot_20way(num_ways: int) -> dict[str, Any]:
    """20-way Omniglot beyond the paper's settings: RESULTS.md says why."""
    del num_ways
    return {
        "datasource": "omniglot",
        "num_ways": 20,
        "metatrain_iterations": 30_000,
        "beta_schedule": "cosine",
        "first_order": True,
        "method_settings": {
            "zero_head": True,
            "train_query_sets": 5,
            "learn_rates": True,
        },
    }


def _maml_plus_plus(num_ways: int) -> dict[str, Any]:
    """MAML++ on Omniglot, by the files that its authors released.

    Epochs are of 500 iterations. Their loss is the mean over the support set;
    ours is N times that, so alpha is 0.1 / N. Order annealing, which those
    files leave out, is first_order_iterations.
    """
    return {
        "datasource": "omniglot",
        "metatrain_iterations": 50_000,
        "meta_batch_size": 8,
        "alpha": 0.1 / num_ways,
        "num_steps": 5,
        "beta_schedule": "cosine",
        "max_pool": True,
        "method_settings": {
            "learn_rates": True,
            "norm_by_step": True,
            "multi_step_iterations": 5000,
        },
    }


PRESETS: dict[str, Callable[[int], dict[str, Any]]] = {
    "omniglot_20way": _omniglot_20way,
    "maml_plus_plus": _maml_plus_plus,
}


def preset(name: str, num_ways: int) -> dict[str, Any]:
    """The settings of a preset, `datasource` among them.

    Args:
        name: a key of `PRESETS`.
        num_ways: N, where the preset does not set it.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"preset must be one of {', '.join(PRESETS)}. Received: "
            f"preset={name!r}",
            "preset",
        )
    return PRESETS[name](num_ways)
