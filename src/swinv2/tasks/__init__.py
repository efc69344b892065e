"""Tasks: a model with its loss, its metrics and its predictions."""
