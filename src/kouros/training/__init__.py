"""Trains what systems and priors define. May import everything but the pipeline and the command line."""
