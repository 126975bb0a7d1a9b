"""compute_accuracy, as the original returns it."""


def compute_accuracy(output, target, topk=(1,)):
    """A list of tensors of one element, in percent."""
    ranked = output.topk(max(topk), dim=1).indices
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].any(dim=1).float().mean().view(1) * 100 for k in topk]
