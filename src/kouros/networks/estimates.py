"""What networks that regress bodies answer with, and what the iterative ones begin from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.archives import ArchiveError, read_npz
from kouros.batched import Batched
from kouros.body.parameters import Bodies
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.geometry.rotations import rotmat_to_rot6d, rotvec_to_rotmat
from kouros.priors.gmm import load_gmm

NUM_BETAS = 10
_MEAN_CAMERA = (0.9, 0.0, 0.0)
_UPRIGHT = (torch.pi, 0.0, 0.0)
"""Half a turn about x: from body space (y up) to a camera that the person faces (y down)."""


@dataclass(frozen=True)
class Regressed(Batched):
    """What regressors answer with: bodies in the axes of their crops' cameras, and how large and where in the crop."""

    rotations: Float[Tensor, "batch 24 3 3"]
    """Of the joints against their parents; the first, ``global_orient``, against the camera."""
    betas: Float[Tensor, "batch 10"]
    camera: Float[Tensor, "batch 3"]
    """Weak perspective over the crop: scale, tx, ty."""

    @property
    def weak_perspective(self) -> WeakPerspectiveCamera:
        """The camera by its names."""
        return WeakPerspectiveCamera(self.camera[:, 0], self.camera[:, 1:])

    @property
    def transl(self) -> Float[Tensor, "batch 3"]:
        """Where the bodies stand, metres, in the nominal crop's space."""
        return perspective_translation(self.weak_perspective)

    @property
    def bodies(self) -> Bodies:
        """The same in the nominal crop's space."""
        camera = nominal_crop_camera(len(self.betas), self.betas)
        return Bodies.from_rotations(self.rotations, self.betas, self.transl, camera)


@dataclass(frozen=True)
class MeanParameters:
    """Where iterative regressors begin (HMR, Kanazawa et al. 2018, Sec. 3.2)."""

    pose: Float[Tensor, " 144"]
    """6D rotations of the 24 joints, each a row-major 3x2 matrix; see
    `kouros.geometry.rotations.rot6d_to_rotmat`."""
    betas: Float[Tensor, " 10"]
    camera: Float[Tensor, " 3"]

    @staticmethod
    def packaged() -> "MeanParameters":
        """The packaged pose prior's mean pose, upright and facing the camera, in the mean shape."""
        pose = torch.cat([torch.tensor(_UPRIGHT), load_gmm().mean().float()])
        rotations = rotvec_to_rotmat(pose.unflatten(0, (24, 3)))
        return MeanParameters(rotmat_to_rot6d(rotations).flatten(), torch.zeros(NUM_BETAS), torch.tensor(_MEAN_CAMERA))

    @staticmethod
    def blank() -> "MeanParameters":
        """Zeros: for a network whose weights, and with them its first guess, are yet to come."""
        return MeanParameters(torch.zeros(144), torch.zeros(NUM_BETAS), torch.zeros(3))

    @staticmethod
    def read(path: str | Path) -> "MeanParameters":
        """SPIN's ``smpl_mean_params.npz``.

        Raises:
            ValueError: not such a file.
            OSError: the file cannot be read.
        """
        wanted = {"pose": (144,), "shape": (NUM_BETAS,), "cam": (3,)}
        expected = "expected SPIN's smpl_mean_params.npz: pose (144), shape (10) and cam (3)"
        try:
            arrays = read_npz(path, {name: (shape, "float32") for name, shape in wanted.items()})
        except ArchiveError as error:
            raise ValueError(f"{path} is not a file of mean parameters ({error}); {expected}.") from error
        return MeanParameters(*(torch.from_numpy(arrays[name]) for name in wanted))
