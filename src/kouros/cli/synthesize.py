"""``kouros synthesize``: people drawn with all that is known of them, stored as parameters and rendered when asked."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kouros.cli.outputs import check_out
from kouros.cli.usage import Flag, UsageError
from kouros.sentences import explained


@dataclass(frozen=True)
class Synthesize:
    """Make synthetic people: scenes as parameters and a table of all that is known of everyone in them.

    Pictures are rendered when a training run or an evaluation asks for them; --images also writes them. The same seed
    makes the same people, by any number of processes and machines; an interrupted run goes on where it was. Look at
    them with `kouros data info DIR`. Needs kouros[train].
    """

    out: Path
    """Folder; made where it is missing."""
    people: int = 10_000
    """How many are drawn, one to four in a picture; a tenth or so are too small or hidden to be in the table."""
    seed: int = 0
    """Another seed makes other people."""
    mocap: Path | None = None
    """Motion capture to take poses from: folder of diverse_frames.npz; without it, the packaged pose prior."""
    split: Literal["train", "val"] = "train"
    """Name of the table, and which poses of the motion capture."""
    backgrounds: Path | None = None
    """Folder of photos to put behind the people; without it, drawn rooms."""
    wardrobe: Path | None = None
    """Folder of MakeHuman's garments and hair (.mhclo files and their OBJ) to dress people in; without it, clothes are
    painted on."""
    images: Flag = False
    """Also write the pictures, as JPEG."""
    detections: Flag = False
    """Also let the packaged detector look at everybody, for the learned start to learn from (OUT/detections); may be
    added to people made before."""
    features: Flag = False
    """With --detections: also keep what the detector's network made of everybody, 200 KB each, for the depths of joints
    to be learned from."""
    size: int = 224
    """Side of the pictures, pixels."""
    athletic: float = 0.0
    """Share of people in poses as in sports, drawn by rule: limbs anywhere that joints allow, half of them not
    upright."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes."""
    rank: int = 0
    """This machine's number among --world that share the work and the folder."""
    world: int = 1
    """Machines."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        try:
            from kouros.data.synthetic.generate import Order, OrderError, synthesize
            from kouros.data.synthetic.scenes import SceneConfig
        except ImportError as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        if self.features and not self.detections:
            raise UsageError("--features are of detected people; add --detections.")
        if not 0.0 <= self.athletic <= 1.0:
            raise UsageError(f"--athletic is a share, from 0 to 1, not {self.athletic:g}.")
        check_out(self.out)
        order = Order(
            people=self.people,
            seed=self.seed,
            split=self.split,
            mocap=self.mocap,
            backgrounds=self.backgrounds,
            wardrobe=self.wardrobe,
            images=self.images,
            detections=self.detections,
            features=self.features,
            scene=SceneConfig(size=self.size, athletic=self.athletic),
        )
        try:
            made = synthesize(
                order, self.out, workers=self.workers, rank=self.rank, world=self.world, on_shard=_progress
            )
        except OrderError as error:
            raise UsageError(str(error)) from None
        except (OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        if made.made_shards and sys.stderr.isatty():
            print(file=sys.stderr)
        if made.rows is None:
            print(f"{self.out}: this machine's part is done; the last to finish writes {made.table.name}.")
        else:
            print(f"{made.table}: {made.rows} people in {made.pictures} pictures")
        return 0


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\rshard {done} of {of}", end="", file=sys.stderr, flush=True)
