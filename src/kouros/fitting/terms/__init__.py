"""What a fit weighs, as residuals with analytic Jacobians: keypoints in the picture, landmarks in space, DensePose's
points of the skin, priors; how those points follow the unknowns; and the objective that adds the terms up.

May import the fit's unknowns and linearization, kernels, and whatever fitting may; knows no solver and no schedule.
"""
