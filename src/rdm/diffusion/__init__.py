"""The forward process, what is learned, and how it is integrated."""
