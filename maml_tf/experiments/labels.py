"""Names and colors of networks in tables and figures."""

LABELS = {
    "maml": "MAML",
    "first-order": "first-order MAML",
    "meta_sgd": "Meta-SGD",
    "reptile": "Reptile",
    "protonet": "prototypical network",
    "matching": "matching network",
    "siamese": "siamese network",
    "nearest": "nearest neighbor",
    "finetuning": "fine-tuning",
    "original": "authors' checkpoint",
}
COLORS = {
    "maml": "#c1272d",
    "first-order": "#eb7f2a",
    "pretrained": "#2b6cb0",
    "oracle": "#2f855a",
    "random": "#8a8a8a",
}


def network_label(label: str) -> str:
    """The name of the network in tables and figures."""
    return LABELS.get(label, label)


def color(label: str) -> str:
    """The color of a network, by the first part of its label."""
    return COLORS.get(label.split(".")[0], "#444444")
