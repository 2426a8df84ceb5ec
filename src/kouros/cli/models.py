"""``kouros models``: what comes with kouros, and runs made of others: published checkpoints, chains, averages."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kouros.cli.consoles import table_console
from kouros.cli.outputs import check_out
from kouros.cli.usage import UsageError
from kouros.sentences import explained


@dataclass(frozen=True)
class ListModels:
    """What comes with kouros, and which systems can be trained."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from rich.table import Table

        from kouros.cards import model_cards
        from kouros.systems.table import SYSTEMS

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column, justify in (("name", "left"), ("kind", "left"), ("MB", "right"), ("what", "left")):
            table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
        cards = model_cards()
        for card in cards.values():
            table.add_row(card.name, card.kind, f"{card.megabytes:.1f}", card.title)
        for entry in SYSTEMS.values():
            if entry.name not in cards:
                table.add_row(
                    entry.name, "system", "-", f"{entry.title}: {entry.summary}; train it, no weights come along"
                )
        table_console().print(table)
        return 0


@dataclass(frozen=True)
class ModelInfo:
    """The card of one model: what it was made of and how, its licence, figures and limits."""

    name: Annotated[str, tyro.conf.Positional]
    """As `kouros models list` has it."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.cards import model_cards

        cards = model_cards()
        if self.name not in cards:
            raise UsageError(f"there is no model {self.name!r}; there are {', '.join(cards)}.")
        card = cards[self.name]
        print(f"{card.name}: {card.title} ({card.kind}, {card.megabytes:.1f} MB)")
        rows = [("licence", card.licence), ("made from", card.made_from), ("made by", card.command)]
        rows += [("figure", figure) for figure in card.figures] + [("limits", card.limits)]
        rows += [("file", file) for file in card.files]
        for title, text in rows:
            print(f"  {title:10s} {text}")
        return 0


@dataclass(frozen=True)
class ConvertModel:
    """Make a published SPIN checkpoint a run, which is used like one that was trained here.

    Reads files with the weights of SPIN's network, also with prefixes and from half precision; nothing in them is
    executed. They belong to whoever published them, and so do the bodies that they estimate.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The checkpoint, such as model_checkpoint.pt."""
    out: Path
    """Folder of the run to make."""
    body: Path | None = None
    """The SMPL file whose bodies the network estimates, for later; without it, the free body is taken, which only
    stands in for SMPL."""
    mean_parameters: Path | None = None
    """smpl_mean_params.npz, for a checkpoint that does not hold them."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        try:
            from kouros.cli.reconstruct import load_body_of
            from kouros.networks.estimates import MeanParameters
            from kouros.systems.checkpoints import read_published
            from kouros.systems.losses import require_regressable
            from kouros.systems.table import system_name
            from kouros.training.runs import RunFolder, write_config
            from kouros.training.weights import Weights, save_weights

            check_out(self.out)
            run = RunFolder(self.out)
            if run.config.exists() or run.newest() is not None:
                raise ValueError(f"{self.out} holds a run already; choose another --out.")
            given = load_body_of(self.body)
            if given is not None:  # better to hear of a wrong one now
                require_regressable(given)
            mean = None if self.mean_parameters is None else MeanParameters.read(self.mean_parameters)
            published = read_published(self.source, mean)
            weights = Weights(system_name(type(published.config)), 0, published.tensors)
            save_weights(run.weights, weights)
            body = None if self.body is None else str(self.body.resolve())
            write_config(run, published.config, {"body": body, "converted_from": self.source.name})
        except (OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}: SPIN with ResNet-{published.config.backbone}")
        return 0


@dataclass(frozen=True)
class ChainModels:
    """Put trained systems one behind the other: a run of the later ones sees what those before it have estimated.

    The chain's folder is used like any run (`kouros reconstruct --system`, `kouros evaluate`); it names the stages.
    """

    stages: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folders of the runs, in order."""
    out: Path
    """Folder of the chain to make."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.training.runs import write_chain

        if len(self.stages) < 2:
            raise UsageError("a chain has two stages or more; name their runs.")
        try:
            write_chain(self.out, self.stages)
        except (OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}: {len(self.stages)} stages")
        return 0


@dataclass(frozen=True)
class AverageModels:
    """Average the weights of two runs, of which the second began from the first: a run like them.

    What a network knew and lost when it was trained further comes back, and most of what it learned stays (Wortsman et
    al., "Model soups", ICML 2022).
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FIRST")]
    """Folder of a run."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SECOND")]
    """Folder of another one of the same system and configuration."""
    share: float
    """Of the second, 0 to 1."""
    out: Path
    """Folder of the run to make."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.training.averaging import average_runs

        if not 0 <= self.share <= 1:
            raise UsageError(f"--share must be from 0 to 1, not {self.share}.")
        try:
            average_runs(self.first, self.second, self.share, self.out)
        except (OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}: {self.share:g} of {self.second}, the rest of {self.first}")
        return 0


@dataclass(frozen=True)
class PackModel:
    """Pack a run, or a chain of several, as those that come with kouros are: in float16, and without the trunks that
    come with kouros anyway.

    The folder is used like any run, but cannot be trained further. Of a learned start, or of depths of joints, it is
    one file, read without a run.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, of an average of runs, or of a chain."""
    out: Path
    """The folder to make, or the .npz file."""
    which: Literal["last", "best"] = "last"
    """Of the run's weights: the newest, or the best by validation."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.training.packing import pack_run

        try:
            pack_run(self.run_folder, self.out, self.which)
        except (OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}")
        return 0


@dataclass(frozen=True)
class Models:
    """What comes with kouros; published checkpoints; runs put together."""

    action: Annotated[
        Annotated[ListModels, tyro.conf.subcommand("list")]
        | Annotated[ModelInfo, tyro.conf.subcommand("info")]
        | Annotated[ConvertModel, tyro.conf.subcommand("convert")]
        | Annotated[ChainModels, tyro.conf.subcommand("chain")]
        | Annotated[AverageModels, tyro.conf.subcommand("average")]
        | Annotated[PackModel, tyro.conf.subcommand("pack")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        """Do it; returns the exit status."""
        return self.action.run()
