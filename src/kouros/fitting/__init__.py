"""Bodies from what was seen of them: the terms of a fit, the solvers that weigh them, and the schedules around those.

`parameters` has the unknowns, `linearization` what a term says of itself at a point. Above these, each folder knows
those before it: `kernels` (compiled loops), `terms` (what a fit weighs), `solvers` (how it is minimized), `schedules`
(from where, in which stages, with which weights: SMPLify, the default fit, synergy, videos, SPIN's loop).

May import: priors, body, geometry.
"""
