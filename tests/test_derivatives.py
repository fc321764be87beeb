"""Ops that TensorFlow does not differentiate are found; no others are."""

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry, ops

import maml_tf
from maml_tf.core import derivatives
from maml_tf.core.derivatives import gaps_in
from maml_tf.errors import ConfigError

EXAMPLES, FEATURES, UNITS = 4, 8, 12

# Constant almost everywhere, or without numbers that depend on numbers.
ZERO_DERIVATIVE = {
    "EditDistance",
    "LoadAndRemapMatrix",
    "LookupTableFind",
    "LookupTableFindV2",
    "OnesLike",
    "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
    "StatelessRandomBinomial",
    "StatelessRandomPoisson",
    "StopGradient",
    "ZerosLike",
}
# TensorFlow's own bookkeeping of gradients.
INTERNAL = {
    "TensorArrayGradV3",
    "TensorArrayGradWithShape",
    "TensorListConcatLists",
    "TensorListPushBackBatch",
}


def may_be_numbers(argument, definition):
    numbers = {
        getattr(tf, name).as_datatype_enum
        for name in ("float16", "bfloat16", "float32", "float64")
        + ("complex64", "complex128", "variant")
    }
    if argument.type:
        return argument.type in numbers
    name = argument.type_attr or argument.type_list_attr
    for attribute in definition.attr:
        if attribute.name == name:
            allowed = attribute.allowed_values.list.type
            return not allowed or bool(numbers & set(allowed))
    return False


def test_the_tables_cover_tensorflows_registry():
    found = set()
    for name in dir(tf.raw_ops):
        definition = op_def_registry.get(name)
        if definition is None:
            continue
        numbers = [
            any(may_be_numbers(x, definition) for x in arguments)
            for arguments in (definition.input_arg, definition.output_arg)
        ]
        try:
            constant = ops.gradient_registry.lookup(name) is None
        except LookupError:  # TensorFlow raises an error by itself
            continue
        if constant and all(numbers):
            found.add(name)
    known = derivatives._DIFFERENTIABLE_ONCE | derivatives._NOT_DIFFERENTIABLE
    assert found == known | ZERO_DERIVATIVE | INTERNAL


class Apply(keras.layers.Layer):
    """A function as a layer, without what `Lambda` restricts."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


def network(*layers):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(UNITS, "tanh"),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def specs(model):
    return [tf.TensorSpec(v.shape, v.dtype) for v in model.trainable_variables]


def task():
    batch = maml_tf.Batch(
        tf.TensorSpec([EXAMPLES, FEATURES]), tf.TensorSpec([EXAMPLES, 3])
    )
    return maml_tf.Task(batch, batch)


def gaps(model, loss=None, **kwargs):
    loss = maml_tf.mean_squared_error(model) if loss is None else loss
    gradient = functools.partial(
        maml_tf.task_meta_gradient, loss, alpha=0.1, num_steps=1, **kwargs
    )
    return gaps_in(gradient, specs(model), task(), model)


def resized(x):
    images = tf.reshape(x, [-1, 2, 2, UNITS // 4])
    return tf.image.resize(images, (4, 4))


def fully_sparse(x):
    return tf.sparse.from_dense(tf.reshape(x, [EXAMPLES, UNITS]))


def added(x):
    total = tf.sparse.add(fully_sparse(x), fully_sparse(x * x))
    return tf.reshape(total.values, [EXAMPLES, UNITS])


def sparse_softmax(x):
    values = tf.sparse.softmax(fully_sparse(x)).values
    return tf.reshape(values, [EXAMPLES, UNITS])


def joined(x):
    total = tf.sparse.concat(0, [fully_sparse(x), fully_sparse(x * x)])
    return tf.reshape(total.values, [EXAMPLES, 2 * UNITS])


def normalized(x):
    mean, variance = tf.nn.moments(x, [0])
    return (x - mean) * tf.math.rsqrt(variance + 0.1)


def squared_in_numpy(x):
    return tf.ensure_shape(
        tf.numpy_function(np.square, [x], tf.float32), x.shape
    )


quantization = tf.quantization
GAPS = {
    "ResizeBilinearGrad": resized,
    "FakeQuantWithMinMaxArgsGradient": (
        lambda x: quantization.fake_quant_with_min_max_args(x, -1, 1)
    ),
    "FakeQuantWithMinMaxVarsGradient": (
        lambda x: quantization.fake_quant_with_min_max_vars(x, -1, 1)
    ),
    "FakeQuantWithMinMaxVarsPerChannelGradient": (
        lambda x: quantization.fake_quant_with_min_max_vars_per_channel(
            x, -tf.ones(UNITS), tf.ones(UNITS)
        )
    ),
    "SparseAddGrad": added,
    "SparseConcat": joined,
    "tf.nn.moments": lambda x: normalized(x - tf.nn.moments(x, [0])[0]),
    "HSVToRGB": lambda x: tf.image.hsv_to_rgb(tf.reshape(x, [-1, 2, 2, 3])),
    "PyFunc": squared_in_numpy,
    "RandomShuffle": tf.random.shuffle,
    "LinSpace": lambda x: (
        x * tf.raw_ops.LinSpace(start=x[0, 0], stop=x[0, 1], num=UNITS)
    ),
    "OneHot": lambda x: x * tf.one_hot(0, UNITS, x[0, 0], x[0, 1]),
    "Betainc": lambda x: tf.math.betainc(1 + tf.abs(x), 1.0, 0.5 + 0 * x),
    "Zeta": lambda x: tf.math.zeta(3 + x, 1.0 + 0 * x),
    "ImageProjectiveTransformV3": lambda x: keras.ops.image.affine_transform(
        tf.reshape(x, [-1, 2, 2, 3]),
        np.array([[1, 0.1, 0, 0, 1, 0.2, 0, 0]], np.float32),
    ),
}


def named(functions):
    """Layers that apply the functions, named by these."""
    return [
        Apply(function, name=re.sub(r"\W", "_", name))
        for name, function in functions.items()
    ]


def side_by_side(layers):
    """A network that applies each layer to the same hidden layer."""
    inputs = keras.Input((FEATURES,), batch_size=EXAMPLES)
    hidden = keras.layers.Dense(UNITS, "tanh")(inputs)
    outputs = [keras.layers.Flatten()(layer(hidden)) for layer in layers]
    joined = keras.layers.Concatenate()(outputs)
    return keras.Model(inputs, keras.layers.Dense(3)(joined))


def test_ops_that_end_the_gradient_are_named_with_their_layers():
    found = gaps(side_by_side(named(GAPS)))
    assert {gap.op: gap.place for gap in found} == {
        op: re.sub(r"\W", "_", op) for op in GAPS
    }


IN_FUNCTIONS = {
    "loop": lambda x: tf.while_loop(
        lambda i, _: i < 2, lambda i, y: (i + 1, normalized(y)), (0, x)
    )[1],
    "branch": lambda x: tf.cond(x[0, 0] > 0, lambda: normalized(x), lambda: x),
    "function": tf.function(normalized, autograph=False),
    "batched": lambda x: tf.vectorized_map(normalized, x[:, tf.newaxis]),
}


def test_they_are_found_in_the_functions_that_a_layer_calls():
    found = gaps(side_by_side(named(IN_FUNCTIONS)))
    assert {gap.op for gap in found} == {"tf.nn.moments"}
    assert {gap.place for gap in found} == set(IN_FUNCTIONS)


def soft_labels(stop):
    """A cross-entropy whose labels are outputs of the network, too."""

    def objective(_, outputs):
        labels = tf.nn.softmax(outputs)
        labels = tf.stop_gradient(labels) if stop else labels
        return tf.nn.softmax_cross_entropy_with_logits(labels, 2 * outputs)

    return objective


def test_labels_that_depend_on_weights_are_found():
    model = network()
    (gap,) = gaps(model, maml_tf.supervised(model, soft_labels(stop=False)))
    assert "softmax_cross_entropy_with_logits in its labels" in str(gap)


FINE = {
    "an index": lambda x: x * tf.one_hot(tf.argmax(x, -1), UNITS),
    "a comparison": lambda x: tf.where(x > 0, x * x, tf.sin(x)),
    "steps": lambda x: x * tf.sign(x) + tf.floor(x) + tf.round(x),
    "a rank": lambda x: tf.gather(x, tf.argsort(x[0]), axis=1),
    "the largest": lambda x: tf.math.top_k(x, 3).values,
    "a limit": lambda x: tf.clip_by_value(x, -0.5, 0.5),
    "a shape": lambda x: x / tf.cast(tf.size(x), x.dtype) + tf.zeros_like(x),
    "random": lambda x: x * tf.random.stateless_uniform([UNITS], [1, 2]),
    "a constant": lambda x: x * tf.stop_gradient(tf.sigmoid(x)),
    "of constants": lambda x: x + 0 * normalized(tf.stop_gradient(x)),
    "a range": lambda x: x * tf.range(UNITS, dtype=x.dtype),
    "a line": lambda x: x * tf.linspace(0.0, 1.0, UNITS),
    "a loop": lambda x: tf.map_fn(lambda row: tf.sin(row) * row, x),
    "batched": lambda x: tf.vectorized_map(lambda row: tf.sin(row) * row, x),
    "Python": lambda x: tf.ensure_shape(
        tf.py_function(tf.square, [x], tf.float32), x.shape
    ),
    "sparse": lambda x: tf.sparse.sparse_dense_matmul(
        fully_sparse(x), tf.ones([UNITS, 2])
    ),
}


def test_ops_that_are_constant_or_exact_are_not_refused():
    assert not gaps(side_by_side(named(FINE)))


LAYERS = keras.layers


def test_layers_that_are_exact_are_not_refused():
    images = [LAYERS.Reshape((2, 2, 3)), LAYERS.Reshape((4, 3))]
    layers = [
        [images[1], LAYERS.MaxPooling1D(2)],
        [images[0], LAYERS.MaxPooling2D(2), LAYERS.LeakyReLU()],
        [images[0], LAYERS.AveragePooling2D(2), LAYERS.ReLU(6.0)],
        [images[1], LAYERS.LSTM(2)],
        [images[1], LAYERS.TimeDistributed(LAYERS.Dense(2))],
        [images[0], LAYERS.Conv2D(2, 2), LAYERS.GroupNormalization(2)],
        [images[0], LAYERS.UpSampling2D(2)],
        [images[0], LAYERS.UpSampling2D(2, interpolation="bilinear")],
        [images[0], LAYERS.Resizing(3, 3, "bicubic", antialias=True)],
        [LAYERS.BatchNormalization(), LAYERS.LayerNormalization()],
        [LAYERS.UnitNormalization(), LAYERS.PReLU(), LAYERS.Softmax()],
        [LAYERS.Rescaling(2.0), LAYERS.ELU(), LAYERS.Dropout(0.0)],
    ]

    def chain(members):
        return lambda x: functools.reduce(lambda y, f: f(y), members, x)

    assert not gaps(side_by_side(map(chain, layers)))


def test_labels_that_are_data_or_constant_are_not_refused():
    model = network()
    for objective in (
        soft_labels(stop=True),
        keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1),
    ):
        assert not gaps(model, maml_tf.supervised(model, objective))


def test_what_no_gradient_goes_through_twice_is_not_refused():
    model = network(Apply(resized))
    head = [v.path.startswith("dense_") for v in model.trainable_variables]
    head[:2], head[2:] = [False, False], [True, True]
    assert not gaps(model, adapts=head)
    assert not gaps(model, first_order=True)
    inputs = keras.Input((FEATURES,))
    scaled = Apply(normalized)(inputs)
    assert not gaps(keras.Model(inputs, LAYERS.Dense(3)(scaled)))


def tasks():
    def draw(seed):
        rng = np.random.default_rng(seed)
        sizes = (EXAMPLES, FEATURES), (EXAMPLES, 3)
        return tuple(
            tuple(rng.standard_normal(s).astype("f") for s in sizes)
            for _ in range(2)
        )

    return maml_tf.tasks_from_function(draw)


def fit(model, **kwargs):
    learner = maml_tf.Learner(model, "mse", **kwargs)
    learner.fit(tasks(), 1, meta_batch_size=2, progress=False)


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (resized, "ResizeBilinearGrad, in sequential.*/odd;"),
        (normalized, "tf.nn.moments, in sequential.*/odd;"),
        (tf.nn.softsign, "SoftsignGrad, in sequential.*/odd."),
        (sparse_softmax, "an op"),
    ],
    ids=["constant", "moments", "unknown", "failing"],
)
def test_fit_refuses_and_offers_the_first_order(function, op):
    layer = Apply(function, name="odd")
    with pytest.raises(
        ConfigError, match=f"no second derivative of {op}.*use first_order=True"
    ):
        fit(network(layer))
    if function is normalized:
        fit(network(layer), first_order=True)


def test_an_op_without_any_derivative_is_refused_in_other_words():
    with pytest.raises(
        ConfigError,
        match="no derivative of HSVToRGB, in .*/odd; .*stop_gradient",
    ):
        fit(network(Apply(GAPS["HSVToRGB"], name="odd")))


def test_reptile_needs_no_second_derivative():
    fit(network(Apply(resized)), method=maml_tf.Reptile(num_steps=2))


def test_the_check_names_op_and_layer():
    rng = np.random.default_rng(0)
    batches = [
        maml_tf.Batch(
            rng.standard_normal((EXAMPLES, FEATURES)).astype("f"),
            rng.standard_normal((EXAMPLES, 3)).astype("f"),
        )
        for _ in range(2)
    ]
    for interpolation, op in (
        ("bilinear", "ResizeBilinearGrad"),
        ("bicubic", "ResizeBicubicGrad"),
    ):
        layer = LAYERS.UpSampling2D(
            2, interpolation=interpolation, name="decoder"
        )
        found = maml_tf.check_meta_gradient(
            network(LAYERS.Reshape((2, 2, 3)), layer),
            keras.losses.MeanSquaredError(),
            maml_tf.Task(*batches),
            alpha=0.1,
        )
        assert not found.second_order
        assert f"no second derivative of {op}, in " in str(found)
        assert "decoder" in str(found)
