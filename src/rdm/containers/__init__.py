"""Container images of the environment that rdm runs in: built, looked into, and run, by Apptainer or by Docker.

An image holds Python and the locked packages; rdm itself is the checkout's, so that an edit needs no new image.
"""
