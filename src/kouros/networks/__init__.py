"""Backbones, decoders, heads: modules with no losses and no files. May import geometry, body, priors."""
