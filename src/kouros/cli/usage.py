"""What the commands share of their options: the type of a switch, and the error of options not understood."""

import tyro

Flag = tyro.conf.FlagCreatePairsOff[bool]
"""A switch that is off unless given; there is no ``--no-`` form of it."""


class UsageError(Exception):
    """Options that make no sense, by themselves or together; the message is one sentence. Exit status 2."""
