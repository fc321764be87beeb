"""Trains and evaluates the experiments of the paper.

    python run_experiment.py
    python run_experiment.py --datasource=glyphs
    python run_experiment.py --datasource=point

meta-learn sinusoid regression, the classification of characters from one
example, and 2D navigation; each ends with a table and figures. Flags have the
names and meanings of the original code's main.py; a flag that is not given
takes the value that the paper uses for the experiment. README.md lists both.
"""

import sys

from maml_tf.cli.main import EXPERIMENT, start

if __name__ == "__main__":
    start(EXPERIMENT, sys.argv)
