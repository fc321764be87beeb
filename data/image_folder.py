"""Packs your own images, from a clone: `maml-tf data image_folder`."""

import sys

from maml_tf.cli.main import main

if __name__ == "__main__":
    main(["data", "image_folder", *sys.argv[1:]])
