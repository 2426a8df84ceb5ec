"""One person of one photo: what was estimated, the camera that sees it, and what follows from the two."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.archives import ArchiveError, read_npz
from kouros.body import BodyModel
from kouros.body.files import DEFAULT_BETAS, FREE_BODY, shared_body
from kouros.body.joint_angles import JointAngles, joint_angles
from kouros.body.keypoints import keypoint_set
from kouros.body.measurements import Measurements, measure
from kouros.body.model import BodyOutput
from kouros.body.parameters import Bodies
from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS
from kouros.data.crops import square_around
from kouros.geometry.cameras import PerspectiveCamera, WeakPerspectiveCamera, weak_perspective_of
from kouros.pipeline.expected_errors import angle_errors, measurement_errors
from kouros.pipeline.visibility import SEEN, Evidence, by_confidence, evidence_of, inside
from kouros.render.maps import DenseMaps
from kouros.systems.estimator import Estimate, PersonInPhoto, parameters_of


@dataclass(frozen=True)
class Reprojection:
    """How far a body's points lie from the keypoints seen, by their confidences."""

    pixels: float
    """Mean distance."""
    share: float
    """The same, of the person's size in the picture (about the height of somebody standing)."""


@dataclass(frozen=True, eq=False)
class Person:
    """A posed and shaped body, float32 on the CPU; camera space is OpenCV's, metres.

    What is computed from the parameters (`vertices`, `joints`) is computed on first use and kept. A pickle holds the
    parameters and where the body model is from, not the model: kilobytes, for whoever has the same body file. People
    are equal whose numbers are.
    """

    parameters: Bodies
    """Pose, shape, place, and the camera of the whole image that they were estimated in."""
    crop_box: Float[Tensor, "4"]
    """The square around the person: x0, y0, x1, y1, pixels of the whole image."""
    box: Float[Tensor, "4"]
    """Around the person as it was found: x0, y0, x1, y1, pixels."""
    score: float
    """In [0, 1]: that there is a person."""
    keypoints_detected: Float[Tensor, "keypoints 3"]
    """As detected: x, y in pixels, confidence."""
    keypoint_set: str
    """Of ``keypoints_detected``."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    body: BodyModel = field(repr=False)
    """The model that the parameters belong to."""
    estimate: Estimate = field(repr=False, default=Estimate())
    """What else the system said of the person: maps, heatmaps, visibility, uncertainty, a mesh of its own."""
    reprojection: Reprojection | None = None
    """How far the body is from ``keypoints_detected``; None: its model has no such points."""
    height_known: bool = False
    """Whether somebody has said how tall the person is, so that the size is no guess."""
    distance_spread: float | None = None
    """Standard deviation of the distance from the camera, as a share of it, by what is known of lens and height
    (`kouros.pipeline.distances`); None: nobody has said what is known."""

    @staticmethod
    def of(estimate: Estimate, seen: PersonInPhoto, body: BodyModel) -> "Person":
        """The person of whom that is the estimate. A mesh without parameters gets those that come nearest to it.

        Raises:
            ValueError: nothing was detected of the person, or the estimate has neither parameters nor a mesh.
        """
        parameters = parameters_of(estimate, body)
        if seen.detected is None or parameters is None:
            raise ValueError("a person is made of a detection and an estimate with parameters or a mesh.")
        half = seen.crop_side / 2
        center = torch.tensor(seen.crop_center.tolist())
        return Person(
            parameters=parameters,
            crop_box=torch.cat([center - half, center + half]),
            box=torch.from_numpy(seen.box).float(),
            score=float(seen.detected.score),
            keypoints_detected=seen.keypoints,
            keypoint_set=seen.detected.keypoint_set,
            image_size=seen.size,
            body=body,
            estimate=estimate,
        )

    def moved(self, parameters: Bodies) -> "Person":
        """The same person with other parameters, which make the mesh."""
        estimate = replace(self.estimate, bodies=parameters, vertices=None, joints=None)
        return replace(self, parameters=parameters, estimate=estimate, reprojection=None)

    def explaining(self, reprojection: Reprojection | None) -> "Person":
        """The same person, with what is known of how well the keypoints are explained."""
        return replace(self, reprojection=reprojection)

    @property
    def reprojection_error(self) -> float | None:
        """Mean distance of the body's points from the keypoints, pixels."""
        return None if self.reprojection is None else self.reprojection.pixels

    @property
    def betas(self) -> Float[Tensor, " betas"]:
        """Coefficients of the body's shape, each of unit variance over adults."""
        return self.parameters.betas

    @property
    def global_orient(self) -> Float[Tensor, "3"]:
        """Rotation vector from body space to camera space."""
        return self.parameters.global_orient

    @property
    def body_pose(self) -> Float[Tensor, "69"]:
        """Rotation vectors of joints 1 to 23, each relative to its parent."""
        return self.parameters.body_pose

    @property
    def transl(self) -> Float[Tensor, "3"]:
        """Added after the pose: as in smplx the body turns about its pelvis, which stays where it rests."""
        return self.parameters.transl

    @property
    def camera(self) -> PerspectiveCamera:
        """Of the whole image, pixels."""
        return self.parameters.camera

    @property
    def weak_camera(self) -> WeakPerspectiveCamera:
        """Of the square crop ``crop_box``."""
        center = (self.crop_box[:2] + self.crop_box[2:]) / 2
        return weak_perspective_of(self.transl, self.camera, center, self.crop_box[2] - self.crop_box[0])

    @cached_property
    def visibility(self) -> Float[Tensor, " 24"]:
        """In [0, 1], of each joint: that it is in the picture and nothing hides it. What is not seen was completed.

        Of systems that do not say it, by the confidences of ``keypoints_detected``.
        """
        said = self.estimate.visibility
        if said is None:
            said = by_confidence(self.keypoints_detected, self.keypoint_set)
        return said * inside(self.camera.project(self.joints), self.image_size)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Of each joint: ``visible``; ``inferred`` from one that is, at the other end of a bone; or ``guessed``."""
        return evidence_of(self.visibility)

    @property
    def vertices_seen(self) -> Float[Tensor, " vertices"]:
        """The same of each vertex: by the joints that it follows."""
        return self.body.weights @ self.visibility

    @property
    def uncertainty(self) -> Float[Tensor, " 24"] | None:
        """Expected distance of each joint from the truth, relative to the pelvis, metres; None: likewise."""
        return self.estimate.uncertainty

    @cached_property
    def measurements(self) -> Measurements:
        """Of the shape in the T-pose, metres. A photo tells little of sizes: see `measurement_errors`.

        Raises:
            ValueError: as `kouros.body.measurements.measure`.
        """
        return measure(self.body, self.betas)

    @property
    def measurement_errors(self) -> dict[str, float]:
        """Expected absolute error of each of the `measurements`, metres: of adults, on drawn pictures."""
        return measurement_errors()

    @cached_property
    def joint_angles(self) -> JointAngles:
        """Degrees, by joint and by the names of `kouros.body.joint_angles.ANGLE_NAMES`."""
        return joint_angles(self.body_pose)

    @property
    def joint_angle_errors(self) -> JointAngles:
        """Expected absolute error of each of the `joint_angles`, degrees; it grows with `uncertainty`."""
        return angle_errors(self.uncertainty)

    @property
    def dense(self) -> DenseMaps | None:
        """What each pixel of ``estimate.square`` shows of the person, by systems that draw such maps."""
        return self.estimate.dense

    @cached_property
    def posed(self) -> BodyOutput:
        """The system's own mesh and skeleton where it gives them, else the body model's; a batch of one."""
        own = self.estimate
        if own.vertices is not None and own.joints is not None:
            return BodyOutput(own.vertices[None], own.joints[None])
        return self.parameters.map(lambda t: t[None]).posed_by(self.body)

    @property
    def vertices(self) -> Float[Tensor, "vertices 3"]:
        """Of the mesh ``body.faces``, camera space."""
        return self.posed.vertices[0]

    @property
    def joints(self) -> Float[Tensor, "24 3"]:
        """Of the skeleton (`kouros.body.skeleton.JOINT_NAMES`), camera space."""
        return self.posed.joints[0]

    def keypoints_3d(self, keypoint_set: str) -> Float[Tensor, "keypoints 3"]:
        """Points of a set in `kouros.body.keypoints`, camera space.

        Raises:
            KeyError: there is no such set, or the body has no regressor for it.
        """
        return self.body.keypoints_3d(self.posed, keypoint_set)[0]

    def keypoints_2d(self, keypoint_set: str) -> Float[Tensor, "keypoints 2"]:
        """The same points in the photo, pixels.

        Raises:
            KeyError: there is no such set, or the body has no regressor for it.
        """
        return self.camera.project(self.keypoints_3d(keypoint_set))

    # ---- as a small value

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, as plain lists that JSON can hold, rounded to a hundred-thousandth.

        Lengths in metres, rotation vectors in radians, `joint_angles` in degrees, places in the picture in pixels.
        """
        errors, angle_errors = self.measurement_errors, self.joint_angle_errors
        return {
            "score": rounded(self.score),
            "image_size": list(self.image_size),
            "camera": {
                "focal_length": rounded(self.camera.focal_length),
                "principal_point": rounded(self.camera.principal_point),
            },
            "body": "free body" if self._own_body is None else str(self._own_body),
            "box": rounded(self.box),
            "crop_box": rounded(self.crop_box),
            "reprojection_error": None
            if self.reprojection is None
            else {"pixels": rounded(self.reprojection.pixels), "share": rounded(self.reprojection.share)},
            "distance_spread": None if self.distance_spread is None else rounded(self.distance_spread),
            "height_known": self.height_known,
            "betas": rounded(self.betas),
            "global_orient": rounded(self.global_orient),
            "body_pose": rounded(self.body_pose.reshape(-1, 3)),
            "transl": rounded(self.transl),
            "joints_3d": rounded(self.joints),
            "joints_2d": rounded(self.camera.project(self.joints)),
            "visibility": rounded(self.visibility),
            "evidence": list(self.evidence),
            "completed": [n for n, seen in zip(JOINT_NAMES, self.visibility.tolist(), strict=True) if seen < SEEN],
            "uncertainty": None if self.uncertainty is None else rounded(self.uncertainty),
            "keypoint_set": self.keypoint_set,
            "keypoints_2d": rounded(self.keypoints_detected),
            "measurements": {
                name: {"metres": rounded(value), "expected_error": rounded(errors[name])}
                for name, value in self.measurements.to_dict().items()
            },
            "joint_angles": {
                joint: {
                    name: {"degrees": rounded(value), "expected_error": rounded(angle_errors[joint][name])}
                    for name, value in names.items()
                }
                for joint, names in self.joint_angles.items()
            },
        }

    @staticmethod
    def from_npz(path: str | Path, body: BodyModel | None = None) -> "list[Person]":
        """The people of a results file (``photo.npz``), in its order.

        Args:
            body: the model that they were made with; default: the free body.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds something else, or the body has fewer betas.
        """
        try:
            arrays = read_npz(path, _NPZ, optional=_NPZ_TOO)
        except ArchiveError as error:
            raise ValueError(f"{path} holds no people of kouros: {error}.") from None
        count, given = arrays["betas"].shape
        # More betas than adults' are those of a child among them.
        model = body or shared_body(None, max(given, DEFAULT_BETAS))
        if given < model.num_betas:
            raise ValueError(f"{path} has {given} betas a person, but the body has {model.num_betas}; pass its body.")
        camera = PerspectiveCamera(
            torch.from_numpy(arrays["focal_length"]), torch.from_numpy(arrays["principal_point"])
        )
        width, height = arrays["image_size"].tolist()
        return [_person_of(arrays, row, model, camera, (width, height)) for row in range(count)]

    def __repr__(self) -> str:
        """One line."""
        x0, y0, x1, y1 = (round(v) for v in self.box.tolist())
        away = float(self.joints[0].norm())
        off = "" if self.reprojection is None else f", {self.reprojection.pixels:.1f} px off"
        return f"Person(score {self.score:.2f}, box {x0} {y0} {x1} {y1}, {away:.1f} m away{off})"

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same in float32, and the body model is from the same file."""
        return self._compared() == other._compared() if isinstance(other, Person) else NotImplemented

    def __hash__(self) -> int:
        """Of what is compared."""
        return hash(self._compared())

    def _compared(self) -> tuple[object, ...]:
        tensors = (self.parameters.vector, self.camera.focal_length, self.camera.principal_point)
        own = (self.crop_box, self.box, self.keypoints_detected)
        said = (self.uncertainty, self.visibility, self.estimate.vertices, self.estimate.joints)
        missed = (None, None) if self.reprojection is None else (self.reprojection.pixels, self.reprojection.share)
        return (
            *(None if t is None else t.numpy(force=True).tobytes() for t in (*tensors, *own, *said)),
            *(None if v is None else np.float32(v) for v in (self.score, *missed, self.distance_spread)),
            self.keypoint_set,
            self.image_size,
            id(self.body) if self.body.origin is None else (self.body.origin, self.body.num_betas),
        )

    @property
    def _own_body(self) -> Path | None:
        """The file of the body model, which other people have, too; None: the free body's."""
        return None if self.body.origin == FREE_BODY else self.body.origin

    def __getstate__(self) -> dict[str, object]:
        """Without what can be computed again, and without the body model where a file holds it."""
        state: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.body.origin is not None:
            state["body"] = (self._own_body, self.body.num_betas)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undo `__getstate__`."""
        if not isinstance(state["body"], BodyModel):
            state = {**state, "body": shared_body(*state["body"])}
        self.__dict__.update(state)


_PLACES = 5
_NPZ = {
    "betas": ((None, None), "float32"),
    "pose": ((None, 72), "float32"),
    "transl": ((None, 3), "float32"),
    "keypoints_2d": ((None, None, 3), "float32"),
    "keypoint_set": ((None,), "text"),
    "boxes": ((None, 4), "float32"),
    "scores": ((None,), "float32"),
    "focal_length": ((), "float32"),
    "principal_point": ((2,), "float32"),
    "image_size": ((2,), "int64"),
}
"""What people are made of again."""
_NPZ_TOO = {
    "crop_boxes": ((None, 4), "float32"),
    "visibility": ((None, NUM_JOINTS), "float32"),
    # Where nobody said them, people have NaN.
    "uncertainty": ((None, NUM_JOINTS), "nan float32"),
    "reprojection": ((None, 2), "nan float32"),
    "distance_spread": ((None,), "nan float32"),
    "height_known": ((None,), "bool"),
}
"""What newer files have as well."""


def rounded(values: Any) -> Any:
    """Numbers, an array or a tensor as plain numbers, to a hundred-thousandth: 10 micrometres."""
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    return np.round(array.astype(np.float64), _PLACES).tolist()


def _person_of(
    arrays: dict[str, np.ndarray], row: int, body: BodyModel, camera: PerspectiveCamera, size: tuple[int, int]
) -> Person:
    def known(name: str) -> Tensor | None:
        values = np.array(arrays[name][row] if name in arrays else np.nan, np.float32)
        return torch.from_numpy(values) if np.isfinite(values).all() else None

    own = {name: torch.from_numpy(arrays[name][row].copy()) for name in ("betas", "pose", "transl", "boxes")}
    parameters = Bodies(own["pose"], own["betas"][: body.num_betas], own["transl"], camera)
    set_name = str(arrays["keypoint_set"][row])
    crop_box = known("crop_boxes")
    if crop_box is None:
        center, side = square_around(arrays["boxes"][row].astype(np.float64).reshape(2, 2))
        crop_box = torch.from_numpy(np.concatenate([center - side / 2, center + side / 2])).float()
    missed, spread = known("reprojection"), known("distance_spread")
    return Person(
        parameters=parameters,
        crop_box=crop_box,
        box=own["boxes"],
        score=float(arrays["scores"][row]),
        keypoints_detected=torch.from_numpy(arrays["keypoints_2d"][row, : len(keypoint_set(set_name))].copy()),
        keypoint_set=set_name,
        image_size=size,
        body=body,
        estimate=Estimate(bodies=parameters, visibility=known("visibility"), uncertainty=known("uncertainty")),
        reprojection=None if missed is None else Reprojection(*missed.tolist()),
        distance_spread=None if spread is None else float(spread),
        height_known=bool(arrays["height_known"][row]) if "height_known" in arrays else False,
    )
