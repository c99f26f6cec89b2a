"""A page on this machine: a picture in, captions out, and where the captioner looked for each word."""
