"""How an objective is minimized: Levenberg-Marquardt over a batch in torch, conjugate gradients as a layer to be
learned through, and `minimize`, which takes compiled loops where they apply. Only that one knows what is unknown.

May import: parameters, linearization, kernels, terms, priors, body, geometry.
"""
