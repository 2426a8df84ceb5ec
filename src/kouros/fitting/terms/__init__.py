"""What a fit weighs, as residuals with analytic Jacobians: keypoints in the picture, landmarks in space, DensePose's
points of the skin, priors; how those points follow the unknowns; and the objective that adds the terms up.

Knows no solver and no schedule. May import: parameters, linearization, kernels, priors, body, geometry.
"""
