"""Makes the packaged priors from motion capture on the SMPL tree. Runs at build time only; needs no GPU.

May import priors and what lies below. `train_prior` is what the command calls.
"""
