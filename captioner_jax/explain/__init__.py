"""What a captioner looked at."""
