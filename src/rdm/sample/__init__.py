"""Drawing images from a trained run."""
