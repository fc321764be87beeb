"""The paper's networks, as plain Keras models.

Sizes and initial values are those of the original code (maml.py): see
sections 5.1 and 5.2 of the paper. Normalization uses the exact layers of
`maml_tf.layers`.
"""

import keras

from maml_tf.errors import ConfigError
from maml_tf.layers.activation import ReLU
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import BatchNormalization, GroupNormalization
from maml_tf.layers.normalized_convolution import NormalizedConv2D

SMALLEST_FOR_KOCH = 65  # pixels that leave its last convolution something


def normalization_layer(norm: str | None) -> list[keras.layers.Layer]:
    """The original's normalization before each ReLU, as a list of layers.

    Args:
        norm: `batch_norm` (an offset but no scale, epsilon 0.001),
            `layer_norm` (over all axes but the first, scale and offset for
            each channel, epsilon 1e-12) or None.

    Raises:
        ValueError: if `norm` is none of them.
    """
    if norm is None:
        return []
    if norm == "batch_norm":
        return [BatchNormalization(scale=False, epsilon=1e-3)]
    if norm == "layer_norm":
        return [GroupNormalization(groups=1, epsilon=1e-12)]
    raise ValueError(
        "norm must be one of 'batch_norm', 'layer_norm' and None. "
        f"Received: norm={norm!r}"
    )


def dense_net(
    input_dim: int,
    hidden_dims: tuple[int, ...],
    output_dim: int,
    norm: str | None = None,
    seed: int = 0,
) -> keras.Model:
    """Dense layers with ReLU between them.

    Weights are drawn from a normal distribution of standard deviation 0.01,
    truncated at two standard deviations; biases are 0.

    Args:
        input_dim: features of an example; inputs are [examples, input_dim].
        hidden_dims: (40, 40) for the sinusoids.
        output_dim: outputs are [examples, output_dim], linear.
        norm: see `normalization_layer`.
        seed: of the initial weights.
    """
    return keras.Sequential(
        [
            keras.Input((input_dim,)),
            *_dense_layers(hidden_dims, output_dim, norm, seed),
        ]
    )


def dense_image_net(
    image_shape: tuple[int, int, int],
    num_ways: int | None,
    norm: str | None = "batch_norm",
    seed: int = 0,
    head_init: float | None = None,
) -> keras.Model:
    """The paper's non-convolutional network: 256, 128, 64 and 64 units.

    Initial values are those of `dense_net`.

    Args:
        image_shape: (height, width, channels); inputs are
            [examples, height, width, channels].
        num_ways: classes; outputs are logits [examples, num_ways]. None
            leaves out the last layer: outputs are embeddings.
        norm: see `normalization_layer`.
        seed: of the initial weights.
        head_init: as for `conv_net`.
    """
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            *_dense_layers((256, 128, 64, 64), num_ways, norm, seed, head_init),
        ]
    )


def conv_net(
    image_shape: tuple[int, int, int],
    num_ways: int | None,
    num_filters: int = 64,
    max_pool: bool = False,
    norm: str | None = "batch_norm",
    seed: int = 0,
    head_init: float | None = None,
) -> keras.Model:
    """Four blocks of 3x3 convolution, normalization and ReLU, then linear.

    Kernels are Glorot uniform, biases 0. Without pooling (Omniglot) the
    convolutions have stride 2 and the last maps are averaged; the last layer
    starts from a normal distribution of standard deviation 1. With pooling
    (mini-ImageNet) each block ends in a 2x2 max-pool and the last maps are
    flattened; the last layer is Glorot uniform.

    Args:
        image_shape: (height, width, channels); inputs are
            [examples, height, width, channels].
        num_ways: classes; outputs are logits [examples, num_ways]. None
            leaves out the last layer: outputs are embeddings.
        num_filters: filters of each convolution.
        max_pool: pool rather than stride.
        norm: see `normalization_layer`.
        seed: of the initial weights.
        head_init: standard deviation of the last layer's initial weights, of
            a normal distribution; None takes the paper's.
    """
    seeds = _layer_seeds(seed)
    layers: list[keras.layers.Layer] = []
    for _ in range(4):
        convolution = Conv2D(
            num_filters,
            3,
            strides=1 if max_pool else 2,
            padding="same",
            kernel_initializer=keras.initializers.GlorotUniform(
                seed=next(seeds)
            ),
        )
        layers += [*_normalized(convolution, norm), ReLU()]
        if max_pool:
            layers.append(keras.layers.MaxPooling2D(2))
    if max_pool:
        layers.append(keras.layers.Flatten())
        head = keras.initializers.GlorotUniform(seed=next(seeds))
    else:
        layers.append(keras.layers.GlobalAveragePooling2D())
        head = keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds))
    if head_init is not None:
        head = _normal(head_init, head.seed)
    if num_ways is not None:
        layers.append(keras.layers.Dense(num_ways, kernel_initializer=head))
    return keras.Sequential([keras.Input(image_shape), *layers])


def koch_net(image_shape: tuple[int, int, int], seed: int = 0) -> keras.Model:
    """Koch's network for siamese pairs: embeddings of 4096 numbers.

    "Siamese Neural Networks for One-shot Image Recognition", 2015, figure 4,
    without the layer that compares two embeddings. Weights of convolutions are
    normal with standard deviation 0.01, of the dense layer 0.2, all biases of
    mean 0.5 and standard deviation 0.01.

    Args:
        image_shape: (height, width, channels); (105, 105, 1) in the paper.
        seed: of the initial weights.

    Raises:
        ConfigError: if the images are too small.
    """
    if min(image_shape[:2]) < SMALLEST_FOR_KOCH:
        raise ConfigError(
            f"Koch's network needs images of at least {SMALLEST_FOR_KOCH} "
            f"pixels; the paper's have 105. Received: {image_shape}"
        )
    seeds = _layer_seeds(seed)

    def normal(stddev: float, mean: float = 0.0) -> keras.Initializer:
        return keras.initializers.RandomNormal(mean, stddev, next(seeds))

    layers: list[keras.layers.Layer] = []
    for filters, size in ((64, 10), (128, 7), (128, 4), (256, 4)):
        layers += [
            Conv2D(
                filters,
                size,
                kernel_initializer=normal(0.01),
                bias_initializer=normal(0.01, 0.5),
            ),
            ReLU(),
            keras.layers.MaxPooling2D(2),
        ]
    layers[-1] = keras.layers.Flatten()  # no pool behind the last one
    layers.append(
        keras.layers.Dense(
            4096,
            "sigmoid",
            kernel_initializer=normal(0.2),
            bias_initializer=normal(0.01, 0.5),
        )
    )
    return keras.Sequential([keras.Input(image_shape), *layers])


def _normalized(
    convolution: Conv2D, norm: str | None
) -> list[keras.layers.Layer]:
    """A convolution and its normalization."""
    normalization = normalization_layer(norm)
    if norm == "batch_norm":
        return [NormalizedConv2D(convolution, *normalization)]
    return [convolution, *normalization]


def _dense_layers(
    hidden_dims: tuple[int, ...],
    output_dim: int | None,
    norm: str | None,
    seed: int,
    head_init: float | None = None,
) -> list[keras.layers.Layer]:
    initializers = (
        keras.initializers.TruncatedNormal(stddev=0.01, seed=layer_seed)
        for layer_seed in _layer_seeds(seed)
    )
    layers: list[keras.layers.Layer] = []
    for units in hidden_dims:
        layers += [
            keras.layers.Dense(units, kernel_initializer=next(initializers)),
            *normalization_layer(norm),
            keras.layers.ReLU(),
        ]
    head = next(initializers)
    if head_init is not None:
        head = _normal(head_init, head.seed)
    if output_dim is not None:
        layers.append(keras.layers.Dense(output_dim, kernel_initializer=head))
    return layers


def _normal(stddev: float, seed: int) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def _layer_seeds(seed: int):
    """One seed for each layer of a network, derived from the network's."""
    return iter(range(1000 * seed, 1000 * seed + 1000))
