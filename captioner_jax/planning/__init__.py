"""What training would take of TPU slices that need not be there."""
