"""What a training step will need: memory by part and operations, planned on fake tensors before a device is there."""
