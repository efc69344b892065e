"""Datasets, transforms, mixing and loading: shared by all the tasks."""
