"""Detection and instance segmentation: metrics, tests and pictures of any detector."""
