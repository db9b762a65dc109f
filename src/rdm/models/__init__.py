"""Denoising networks, and the gates that can be attached to them."""
