"""How close to the edge of stability does meta-training bring the inner loop?

    python -m examples.curvature logs/sinusoid.maml...

Gradient descent on a quadratic diverges if step size times the largest
eigenvalue of the Hessian exceeds 2. For the test tasks of a sinusoid run this
prints that product (with the Gauss-Newton part of the Hessian, at the
meta-learned parameters), and how much the worst tasks add to the mean error.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

from maml_tf.core.prediction import predict
from maml_tf.errors import ExperimentError
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.sinusoids import SinusoidConfig, SinusoidExperiment
from maml_tf.learner.evaluation import NUM_TASKS
from maml_tf.training.checkpoints import Checkpoints

SHOTS = 5
UPDATES = (1, 5, 10)
WORST = 0.01  # of the tasks


def largest_curvatures(experiment: SinusoidExperiment, inputs) -> np.ndarray:
    """Largest eigenvalue of the Gauss-Newton matrix of each support set's MSE.

    Args:
        experiment: its network at the meta-learned parameters.
        inputs: [tasks, K, input_dim].
    """
    theta = [
        tf.convert_to_tensor(v) for v in experiment.model.trainable_variables
    ]

    @tf.function
    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            outputs = predict(experiment.model, theta, x)
        parts = tape.jacobian(outputs, theta)
        return tf.concat([tf.reshape(j, [len(x), -1]) for j in parts], axis=1)

    jacobians = np.array([jacobian(x) for x in tf.unstack(inputs)])
    gauss_newton = 2 / SHOTS * jacobians @ jacobians.transpose(0, 2, 1)
    return np.linalg.eigvalsh(gauss_newton).max(axis=1)


def main(path: str) -> None:
    run = RunDirectory.open(pathlib.Path(path))
    if not isinstance(run.config, SinusoidConfig):
        sys.exit(f"error: {path} is not a run on sinusoids")
    experiment = run.source.build(run.config, pathlib.Path())
    checkpoints = Checkpoints(run.checkpoints, experiment.learned)
    if checkpoints.restore_latest() is None:
        sys.exit(f"error: {run.path} holds no checkpoint")
    stream = experiment.tasks("test", SHOTS)
    tasks = stream.tasks(0, NUM_TASKS)
    alpha = run.config.alpha

    products = alpha * largest_curvatures(experiment, tasks.support.inputs)
    low, median, high = np.quantile(products, [0.05, 0.5, 0.95])
    print(f"alpha x curvature: {median:.2f}, 90 % in {low:.2f} to {high:.2f}")
    print(f"above the limit of 2: {np.mean(products > 2):.0%} of the tasks")

    scores = experiment.learner.evaluate(stream, num_steps=max(UPDATES))
    losses = np.sort(scores.values["loss"], axis=0)
    kept = round(len(losses) * (1 - WORST))
    for update in UPDATES:
        column = losses[:, update]
        print(
            f"{update:2} updates: mean {column.mean():.3f}, without the worst "
            f"{WORST:.0%} of the tasks {column[:kept].mean():.3f}, median "
            f"{np.median(column):.3f}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give one argument, the run directory")
    try:
        main(sys.argv[1])
    except ExperimentError as e:
        sys.exit(f"error: {e}")
