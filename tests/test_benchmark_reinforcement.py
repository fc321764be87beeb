from benchmarks.reinforcement import measure


def test_an_iteration_takes_longer_than_its_environment():
    found = measure("point", 2, meta_batch_size=2, num_shots=2, horizon=5)
    assert 0 < found["environment"] < found["iteration"]
    assert found["memory"] > 0.1
