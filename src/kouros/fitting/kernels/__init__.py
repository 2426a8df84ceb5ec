"""The inner loops, compiled by numba: keypoints with their derivatives, and a whole fit of a person by them.

Each has the same in torch, to be read first: `kouros.fitting.terms.kinematics` and
`kouros.fitting.solvers.levenberg_marquardt`. May import body and how kernels are compiled (`kouros.compiled`), nothing
else of fitting; loads numba, so whoever calls a kernel imports it there.
"""
