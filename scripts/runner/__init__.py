"""From a request to finished jobs: what to run, and running it."""
