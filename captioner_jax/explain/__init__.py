"""Where a captioner looked, what it depends on, and how far the one tells of the other."""
