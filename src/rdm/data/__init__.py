"""Data sets: read or downloaded, verified, split, resized, stored as uint8 arrays or left in their files."""
