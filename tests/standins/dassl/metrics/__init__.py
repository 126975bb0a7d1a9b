"""compute_accuracy, with the original's return type."""


def compute_accuracy(output, target, topk=(1,)):
    """Return a list of one-element tensors, in percent."""
    ranked = output.topk(max(topk), dim=1).indices
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].any(dim=1).float().mean().view(1) * 100 for k in topk]
