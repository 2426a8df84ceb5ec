"""Tables in memory, and estimators that know the truth of a table or miss it by a known amount."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kouros.body.keypoints import KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.images import ImageError
from kouros.data.schema import Sample, TableInfo, check_sample
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.systems.estimator import Estimate, PersonInPhoto


@dataclass(frozen=True, eq=False)
class Rows:
    """A source of samples with one blank picture."""

    info: TableInfo
    samples: Sequence[Sample]
    size: tuple[int, int] = (640, 480)
    unreadable: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for sample in self.samples:
            check_sample(sample, self.info)

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, row: int) -> Sample:
        return self.samples[row]

    def image(self, row: int) -> np.ndarray:
        if row in self.unreadable:
            raise ImageError(f"{self.samples[row].image_path}: broken")
        return np.zeros((self.size[1], self.size[0], 3), np.uint8)

    def has(self, name: str) -> bool:
        return any(s.has(name) for s in self.samples)


def box(number: int) -> dict:
    """A box of its own for each row, by which an oracle knows who is asked for."""
    return {"box_center": np.array([320.0 + number, 240.0]), "box_size": 240.0}


class Oracle:
    """Knows the truth of a source.

    Args:
        body: with it, answers with the true parameters as bodies of this model.
        field: without it, answers with this field's points.
        change: what it does to points (points, 3 or 2), in metres or pixels.
        misses: rows that it does not find.
    """

    def __init__(
        self,
        source,
        *,
        body: BodyModel | None = None,
        field: str = "keypoints_3d",
        flat: bool = False,
        change: Callable[[Tensor], Tensor] = lambda points: points,
        change_body: Callable[[Bodies], Bodies] = lambda body: body,
        misses: tuple[int, ...] = (),
    ) -> None:
        self.name = "oracle"
        self.needs_keypoints = False
        self.body = body
        self.points_3d: KeypointSet | None = None if body or flat else source.info.keypoints_3d
        self.points_2d: KeypointSet | None = source.info.keypoints_2d if flat else None
        self._field, self._change, self._change_body, self._misses = field, change, change_body, misses
        self._rows = {}
        for row in range(len(source)):
            sample = source.sample(row)
            self._rows[tuple(np.round(np.asarray(sample.box_center, float), 3))] = (row, sample)

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        return [self._answer(*self._rows[tuple(np.round(p.crop_center, 3))]) for p in people]

    def _answer(self, row: int, sample: Sample) -> Estimate | None:
        if row in self._misses:
            return None
        if self.body is not None:
            return Estimate(bodies=self._change_body(true_body(sample, self.body)))
        if self.points_2d is not None:
            return Estimate(points_2d=self._change(torch.tensor(np.array(sample.keypoints_2d, np.float32))[:, :2]))
        points = torch.tensor(np.array(getattr(sample, self._field), np.float32))[:, :3]
        return Estimate(points_3d=self._change(points))


def true_body(sample: Sample, model: BodyModel) -> Bodies:
    """The sample's own parameters."""
    pose = torch.tensor(np.array(sample.pose, np.float32))
    transl = [0.0, 0.0, 4.0] if sample.transl is None else list(map(float, sample.transl))
    fx, fy, cx, cy = [500.0, 500.0, 320.0, 240.0] if sample.intrinsics is None else list(map(float, sample.intrinsics))
    camera = PerspectiveCamera(torch.tensor((fx + fy) / 2), torch.tensor([cx, cy]))
    betas = torch.tensor(np.array(sample.betas, np.float32))
    return Bodies(pose, betas, torch.tensor(transl), camera)


def turned_by(turn: Tensor, body: Bodies) -> Bodies:
    """The body turned about its pelvis, in camera space."""
    orient = rotmat_to_rotvec(turn @ rotvec_to_rotmat(body.global_orient))
    return replace(body, pose=torch.cat([orient, body.body_pose]))
