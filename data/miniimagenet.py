"""Packs your mini-ImageNet, from a clone: `maml-tf data miniimagenet`."""

import sys

from maml_tf.cli.main import main

if __name__ == "__main__":
    main(["data", "miniimagenet", *sys.argv[1:]])
