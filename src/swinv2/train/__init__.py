"""Training: options, optimiser groups, schedules, callbacks, and the run that ties them to Lightning."""
