"""One equation changed, in one file, and measured against the captioner as it is."""
