"""Trains and evaluates the experiments of the paper.

    python run_experiment.py
    python run_experiment.py --datasource=glyphs
    python run_experiment.py --datasource=point

meta-learns sinusoid regression, the classification of characters from one
example, or to find a goal in the plane, and ends with a table and figures.
Flags have the names and meanings of the original code's main.py; a flag that
is not given takes the value that the paper uses for the experiment. README.md
lists both.
"""

from absl import app, flags

import maml_tf.cli.flags
from maml_tf.cli.experiment import main, trains_policies
from maml_tf.runtime import start_tensorflow

flags.adopt_module_key_flags(maml_tf.cli.flags)

if __name__ == "__main__":
    # Before app.run, which starts devices, and not quietly.
    start_tensorflow(large_ops=trains_policies())
    app.run(main)
