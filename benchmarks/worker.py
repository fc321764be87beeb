"""Runs one implementation, as meta_step.py requests.

    python worker.py MODULE CLASS WORKLOAD ORDER THREADS PRECISION

ORDER is `first` or `second`, of the derivatives. Requests come as JSON lines on
standard input, [method, *arguments]; each is answered by a JSON line on
standard output.
"""

import dataclasses
import importlib
import json
import os
import resource
import sys
import time

from workloads import WORKLOADS, for_check


def main() -> None:
    module, name, workload, order, threads, precision = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print is no answer

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    implementation_class = getattr(importlib.import_module(module), name)
    implementation_class.start(threads, precision)
    data = dataclasses.replace(
        WORKLOADS[workload], first_order=order == "first"
    )
    if precision == "float64":
        data = for_check(data)
    data.batches(0, 1)  # draws the tasks
    began = time.perf_counter()
    implementation = implementation_class(data)
    implementation.first_call()
    answer(
        {
            "first_call": time.perf_counter() - began,
            "window": implementation.window,
        }
    )
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        if method == "peak_memory":
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer(kilobytes * 1024)
        else:
            answer(getattr(implementation, method)(*arguments))


if __name__ == "__main__":
    main()
