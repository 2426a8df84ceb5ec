"""The inner loops, compiled by numba: keypoints with their derivatives, and a whole fit of a person by them.

Each has the same in torch, to be read first: `kouros.fitting.terms.kinematics` and
`kouros.fitting.solvers.levenberg_marquardt`. Loads numba, so whoever calls a kernel imports it there.

May import: body.
"""
