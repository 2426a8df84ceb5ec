"""Whole fits: where to start (`placement`, `starts`), in which stages and with which weights.

One file a recipe: SMPLify with SPIN's shorter form (`smplify`), the default fit of a photo (`keypoint_fit`),
HoloPose's synergy, videos (`sequence`), SPIN's fit in the training loop and its store of best fits (`in_the_loop`,
`fits_store`).

May import: parameters, linearization, kernels, terms, solvers, priors, body, geometry.
"""
