"""The rows of the tables: what is compared, with which settings."""

import dataclasses

from workloads import WORKLOADS

SECOND, FIRST = "second", "first"  # orders of derivatives
ONE_PER_OP, DEFAULT = "one_per_op", "default"  # threads

IMAGES = tuple(name for name, w in WORKLOADS.items() if w.net)
ONE_UPDATE = tuple(name for name, w in WORKLOADS.items() if w.num_steps == 1)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of a table.

    Attributes:
        name: name of the row.
        package: package it needs besides maml_tf's own requirements.
        module: the file with its classes.
        classes: candidates, of which the fastest is chosen.
        threads: likewise; each class is tried with each.
        second, first: the workloads that it can do with second derivatives
            and without.
        compared: whether its losses can be had, for comparison.
    """

    name: str
    package: str
    module: str
    classes: tuple[str, ...]
    threads: tuple[str, ...]
    second: tuple[str, ...] = tuple(WORKLOADS)
    first: tuple[str, ...] = IMAGES
    compared: bool = True

    def does(self, workload: str, order: str) -> bool:
        return workload in (self.second if order == SECOND else self.first)

    def variants(self, workload: str, order: str) -> list[tuple[str, str]]:
        """(class, threads) to choose the fastest from.

        All threads are tried with one update and second derivatives only;
        otherwise only the first, which win there.
        """
        all_threads = workload in ONE_UPDATE and order == SECOND
        threads = self.threads if all_threads else self.threads[:1]
        return [(name, t) for name in self.classes for t in threads]


LOOP = Entry(
    "maml_tf training loop",
    "tensorflow",
    "with_maml_tf",
    ("TrainingLoop",),
    (ONE_PER_OP,),
    second=ONE_UPDATE,
    first=(),
    compared=False,
)
REFERENCE = Entry(
    "maml_tf step",
    "tensorflow",
    "with_maml_tf",
    ("Step",),
    (ONE_PER_OP,),
    first=tuple(WORKLOADS),
)
ENTRIES = (
    LOOP,
    REFERENCE,
    Entry(
        "TF2, gradient outside map_fn",
        "tensorflow",
        "with_tensorflow",
        ("GradientOutsideMap",),
        (ONE_PER_OP,),
    ),
    Entry(
        "TF2, the same, default threads",
        "tensorflow",
        "with_tensorflow",
        ("GradientOutsideMap",),
        (DEFAULT,),
    ),
    Entry(
        "TF2, the same, compiled by XLA",
        "tensorflow",
        "with_tensorflow",
        ("GradientOutsideMapCompiled",),
        (ONE_PER_OP, DEFAULT),
        second=("sinusoid",),
        first=(),
    ),
    Entry(
        "PyTorch torch.func.vmap",
        "torch",
        "with_pytorch",
        ("Vmap", "VmapOfGradients"),
        (DEFAULT, ONE_PER_OP),
    ),
    Entry(
        "PyTorch, the same, torch.compile",
        "torch",
        "with_pytorch",
        ("VmapCompiled", "VmapOfGradientsCompiled"),
        (DEFAULT, ONE_PER_OP),
        second=("sinusoid",),
        first=(),
    ),
    Entry(
        "PyTorch loop over tasks",
        "torch",
        "with_pytorch",
        ("Loop",),
        (DEFAULT, ONE_PER_OP),
    ),
    Entry(
        "JAX jit(vmap)",
        "jax",
        "with_jax",
        ("Vmap",),
        (ONE_PER_OP, DEFAULT),
        second=("sinusoid",),
        first=(),
    ),
    Entry(
        "JAX jit(vmap), scan of 50",
        "jax",
        "with_jax",
        ("VmapScan",),
        (ONE_PER_OP, DEFAULT),
        second=("sinusoid",),
        first=(),
    ),
    Entry(
        "JAX jit, a call per task",
        "jax",
        "with_jax",
        ("TaskByTask",),
        (ONE_PER_OP, DEFAULT),
        second=("omniglot", "miniimagenet"),
        first=("omniglot", "miniimagenet"),
    ),
    Entry(
        "JAX, the same, matrix products",
        "jax",
        "with_jax",
        ("TaskByTaskProducts",),
        (ONE_PER_OP, DEFAULT),
        second=IMAGES,
    ),
)
