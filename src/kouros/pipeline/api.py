"""`kouros.reconstruct` and `kouros.fit`: the main job by the default reconstructor, or by one of another system."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kouros.body import BodyModel
from kouros.data.images import Photo
from kouros.detection import PoseDetector
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import CameraGiven, Heights, Reconstructor, default_reconstructor


def reconstruct(
    image: str | Path | bytes | np.ndarray | Photo | Any,
    *,
    keypoints: np.ndarray | Sequence[np.ndarray] | None = None,
    keypoint_set: str | Path | None = None,
    boxes: np.ndarray | None = None,
    focal_length: float | None = None,
    camera: CameraGiven | None = None,
    height: Heights = None,
    body: BodyModel | None = None,
    system: str | Path | None = None,
    max_people: int | None = None,
    tiles: bool = True,
    fast: bool = False,
    detector: PoseDetector | None = None,
) -> list[Person]:
    """Posed and shaped people of a photo, left to right.

    What of the input is left out or doubtful is said by an `InputWarning` (`kouros.notes`).

    Args:
        image: a file, its bytes, a PIL image or an array (H, W, 3) of RGB.
        keypoints: (N, K, 3) or (K, 3), pixels and confidence, from another detector; nobody is searched then.
        keypoint_set: what they are, such as ``"openpose25"``; or a .toml or .json file that names them by ours.
        boxes: (N, 4) or (4,), x0, y0, x1, y1 in pixels: one person is looked for in each; results keep their order.
        focal_length: pixels; default: from EXIF, else the image's diagonal.
        camera: in its place, all of the camera: fx, fy, cx, cy or a 3 x 3 matrix, in pixels of the photo; a
            `kouros.data.calibration.Calibration`; or a file of OpenCV's or Pose2Sim's. If it distorts, results are
            of the straightened photo.
        height: metres, of each person in the order of the result (None or NaN: unknown): it says how large they are,
            and so how far away. Without it both are assumed.
        body: default: the free body, or that of the training run.
        system: a name that `kouros models list` prints, the folder of a training run, or a published checkpoint;
            default: ``"default"``.
        max_people: keep only the largest.
        tiles: also search overlapping parts of the photo, for small people.
        fast: search the whole photo only and look at each person once: a third of the time, less exact, and small
            people are missed.
        detector: default: the packaged one.

    Raises:
        ImageError: the photo cannot be read.
        ValueError: keypoints, boxes or numbers are not what is expected; the message says what is.
    """
    return _chosen(body, system, detector).reconstruct(
        image,
        keypoints=keypoints,
        keypoint_set=keypoint_set,
        boxes=boxes,
        focal_length=focal_length,
        camera=camera,
        height=height,
        max_people=max_people,
        tiles=tiles,
        fast=fast,
    )


def fit(
    keypoints_2d: np.ndarray | Sequence[np.ndarray],
    keypoint_set: str | Path,
    *,
    image_size: tuple[int, int],
    focal_length: float | None = None,
    camera: CameraGiven | None = None,
    height: Heights = None,
    body: BodyModel | None = None,
) -> list[Person]:
    """Bodies from keypoints alone, without a photo.

    What of the input is left out or doubtful is said by an `InputWarning` (`kouros.notes`).

    Args:
        keypoints_2d: (N, K, 3) or (K, 3), pixels and confidence; confidence 0 means not seen.
        keypoint_set: such as ``"openpose25"``; or a .toml or .json file that names them by ours.
        image_size: width and height, pixels.
        focal_length: pixels; default: the image's diagonal.
        camera: in its place, all of the camera, as for `reconstruct`; keypoints are of the photo as it was taken.
        height: metres, of each person, as for `reconstruct`.
        body: default: the free body.

    Raises:
        ValueError: the keypoints are not what is expected; the message says what is.
    """
    return default_reconstructor(body).fit(
        keypoints_2d, keypoint_set, image_size=image_size, focal_length=focal_length, camera=camera, height=height
    )


def _chosen(body: BodyModel | None, system: str | Path | None, detector: PoseDetector | None) -> Reconstructor:
    if system is None:
        chosen = default_reconstructor(body)
    else:
        from kouros.pipeline.open import reconstructor_of  # brings along what training needs

        chosen = reconstructor_of(system, body)
    return chosen if detector is None else replace(chosen, detector=detector)
