"""Poses to train on: those of `kouros.data.synthetic.recombination`, which synthetic people share."""

from kouros.data.synthetic.recombination import (
    PoseBank,
    PoseConfig,
    about,
    drawn_poses,
    read_bank,
    recorded_poses,
)

__all__ = ["PoseBank", "PoseConfig", "about", "drawn_poses", "read_bank", "recorded_poses"]
