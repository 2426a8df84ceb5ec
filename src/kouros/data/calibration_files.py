"""Files that describe a camera: OpenCV's YAML, XML and JSON, plain JSON, and Pose2Sim's TOML of several cameras."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kouros.data.calibration import Calibration
from kouros.documents import DocumentError, parse_json

_MATRIX = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "intrinsic_matrix", "intrinsics", "matrix", "mtx", "K")
_DISTORTION = (
    "distortion_coefficients",
    "distCoeffs",
    "Distortion_Coefficients",
    "dist_coeffs",
    "distortions",
    "distortion",
    "dist",
    "D",
)
_WIDTH, _HEIGHT = ("image_width", "image_Width", "width"), ("image_height", "image_Height", "height")
_MAX_BYTES = 2**20
_EXPECTED = (
    "expected OpenCV's YAML, XML or JSON with camera_matrix and distortion_coefficients, JSON with fx, fy, cx, cy, or "
    "Pose2Sim's TOML"
)


def read_calibration(source: str | Path) -> Calibration:
    """The camera that a file describes; of several, ``FILE#NAME`` is the one of that name.

    Raises:
        ValueError: there is no such file, it describes no camera, or several and none is named.
    """
    path, _, wanted = str(source).partition("#")
    if Path(source).is_file():  # a name with a # in it
        path, wanted = str(source), ""
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the camera file {path} cannot be read ({error.strerror or error}).") from None
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path} is larger than any camera's description; {_EXPECTED}.")
    try:
        cameras = _cameras(content.decode("utf-8-sig", "replace"), Path(path).suffix.lower())
        if wanted and wanted not in cameras:
            raise ValueError(f"there is no camera {wanted!r} in it, only {', '.join(cameras) or 'none'}.")
        if len(cameras) > 1 and not wanted:
            names = list(cameras)
            raise ValueError(f"it has {len(names)} cameras ({', '.join(names)}); name one: {path}#{names[0]}.")
        if not cameras:
            raise ValueError(f"it describes no camera; {_EXPECTED}.")
        return _camera(cameras[wanted or next(iter(cameras))])
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def as_calibration(camera: object) -> Calibration:
    """A camera as people give it: four numbers, a matrix, a file.

    Raises:
        ValueError: none of these, or no camera.
    """
    if isinstance(camera, Calibration):
        return camera
    if isinstance(camera, str | Path):
        return read_calibration(camera)
    return Calibration.of_numbers(camera)


def _cameras(text: str, suffix: str) -> dict[str, Mapping[str, Any]]:
    """Descriptions by name."""
    if suffix == ".toml":
        document: Any = tomllib.loads(text)
    elif text.lstrip().startswith(("%YAML", "<?xml", "<opencv_storage")):
        document = _opencv(text)
    else:
        try:
            document = parse_json(text)
        except DocumentError as error:
            raise ValueError(f"{error}; {_EXPECTED}.") from None
    if not isinstance(document, Mapping):
        return {}
    if _is_camera(document):
        return {"camera": document}
    named = {name: each for name, each in document.items() if isinstance(each, Mapping) and _is_camera(each)}
    return {str(each.get("name", name)): each for name, each in named.items()}


def _is_camera(document: Mapping[str, Any]) -> bool:
    return any(name in document for name in _MATRIX) or {"fx", "cx", "cy"} <= set(document)


def _opencv(text: str) -> dict[str, Any]:
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        root = storage.root()
        names = set(root.keys()) if root.isMap() else set()
        found: dict[str, Any] = {}
        for name in names & {*_MATRIX, *_DISTORTION}:
            matrix = root.getNode(name).mat()
            if matrix is not None:
                found[name] = matrix
        for name in names & {*_WIDTH, *_HEIGHT}:
            found[name] = root.getNode(name).real()
    except (cv2.error, SystemError) as error:
        raise ValueError(f"it cannot be read as OpenCV's ({str(error).splitlines()[0][:200]}).") from None
    return found


def _camera(document: Mapping[str, Any]) -> Calibration:
    if document.get("fisheye") is True or "xi" in document:
        raise ValueError("it describes a fisheye lens, which is not supported; straighten the pictures first.")
    matrix, distortion = _first(document, _MATRIX), _first(document, _DISTORTION)
    if matrix is None:
        matrix = [document["fx"], document.get("fy", document["fx"]), document["cx"], document["cy"]]
    numbers = _numbers(matrix, "camera matrix")
    if numbers.size == 9:
        numbers = numbers.reshape(3, 3)
    size = document.get("size")
    if size is None:
        size = (_first(document, _WIDTH), _first(document, _HEIGHT))
    coefficients = np.empty(0) if distortion is None else _numbers(distortion, "distortion").ravel()
    read = Calibration.of_numbers(numbers, coefficients.tolist())
    # Such files have the middle of the first pixel at 0.
    camera = replace(read, principal_point=(read.principal_point[0] + 0.5, read.principal_point[1] + 0.5))
    if not isinstance(size, Sequence) or len(size) != 2 or None in size:
        return camera
    width, height = (float(number) for number in size)
    if not (math.isfinite(width) and math.isfinite(height) and min(width, height) >= 1):
        raise ValueError(f"its image size, {size}, is not two positive numbers of pixels.")
    return replace(camera, image_size=(round(width), round(height)))


def _first(document: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((document[name] for name in names if name in document), None)


def _numbers(given: Any, what: str) -> np.ndarray:
    values = given.get("data") if isinstance(given, Mapping) else given
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"its {what} is no list of numbers.") from None
    if array.size > 100:
        raise ValueError(f"its {what} has {array.size} numbers.")
    return array
