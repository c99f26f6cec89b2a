"""Loss, optimizer, step, checkpoints, logs."""
