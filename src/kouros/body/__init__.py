"""The parametric body: model files, skinning, skeleton, keypoint sets, surface, and the free body.

May import geometry.
"""
