"""Prepares Omniglot, from a clone: `maml-tf data omniglot`."""

import sys

from maml_tf.cli.main import main

if __name__ == "__main__":
    main(["data", "omniglot", *sys.argv[1:]])
