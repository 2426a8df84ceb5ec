"""Trains what systems and priors define. May import: everything below."""
