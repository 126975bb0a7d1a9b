"""Fetch datasets from their hosts and mirrors into CoOp's layout, verified and resumable."""
