"""The one error that reading and building CLIP models raises."""


class WeightsError(ValueError):
    """Weights that cannot be found, read or trusted; one sentence says why and what to do."""
