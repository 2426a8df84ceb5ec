"""Residuals with analytic Jacobians, Levenberg-Marquardt, and the schedules that fit bodies to keypoints.

May import geometry, body and priors.
"""
