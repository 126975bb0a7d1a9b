"""How fast the trainers are, beside a plain implementation of the same methods."""
