"""Backbones, decoders, heads: modules with no losses and no files. May import: priors, body, geometry."""
