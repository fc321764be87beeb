"""Numbers of the paper to stand beside ours (arXiv 1703.03400v3)."""

# Table 2: sinusoid, 5-shot, mean squared error after 1, 5 and 10 updates.
SINUSOID_MSE = {
    ("maml", 5): {1: 0.67, 5: 0.38, 10: 0.35},
    ("pretrained", 5): {1: 2.41, 5: 2.23, 10: 2.19},
}
