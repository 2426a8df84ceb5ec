"""What poses and shapes people take: mixtures, joint limits, learned densities.

Each prior is a log-density (`log_density`, differentiable) and an energy in least-squares form (`energy`, a
`PriorEnergy`). `load_...` reads the packaged one; `kouros.priors.training` makes it anew. May import: body, geometry.
"""
