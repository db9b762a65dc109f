"""Autoencoders, and images encoded by them."""
