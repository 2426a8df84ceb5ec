"""Rotations, cameras, rigid alignment and crops: pure functions on tensors, no state, nothing of bodies.

Needs only torch, numpy, roma and jaxtyping; every other folder may import from here. May import: nothing.
"""
