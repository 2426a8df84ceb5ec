"""What the commands share of their options: the type of a switch, and the error of options not understood."""

import tyro

Flag = tyro.conf.FlagCreatePairsOff[bool]
"""A switch that is off unless given; there is no ``--no-`` form of it."""


class UsageError(Exception):
    """Options that make no sense, by themselves or together; the message is one sentence."""

    status = 2
    """Exit status."""


class MissingExtraError(UsageError):
    """What was asked for needs a package that is not installed; the message names the extra that has it."""

    status = 1
