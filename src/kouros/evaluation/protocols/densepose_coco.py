"""DensePose-COCO: does the body put the right point of its skin at each annotated pixel? (HoloPose Table 1, Fig. 5)"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.body.surface import Geodesics, build_charts
from kouros.body.surface.charts import Charts
from kouros.body.surface.planar import PlanarMesh
from kouros.data.importers.matlab import load_mat
from kouros.evaluation.answers import cameras_of, has_mesh, meshes_of, through_window
from kouros.evaluation.metrics.accumulate import DensePoseRCP
from kouros.evaluation.protocols.card import Measure, PaperTable, ProtocolCard, paper_rows, percent
from kouros.evaluation.protocols.protocol import (
    Curve,
    EvaluationProtocol,
    Judged,
    ProtocolError,
    Rows,
    Scorer,
    Setting,
    require_body,
)
from kouros.render.rasterize import rasterize

_LIMIT = 0.35
"""Metres: beyond, distances need not be known (the curve ends at 30 cm)."""
_PATCHES_APART = 4.0
OWN_CHARTS = "free body"
"""A table's ``provenance["surface"]`` where its points lie on the free body's charts (synthetic people)."""


class OfficialCharts:
    """Where DensePose's charts lie on SMPL's mesh, from its ``UV_Processed.mat``.

    Raises:
        ProtocolError: the file is something else, or of another mesh.
    """

    def __init__(self, path: str | Path, faces: Int[Tensor, "faces 3"]) -> None:
        keys = ("All_FaceIndices", "All_Faces", "All_vertices", "All_U_norm", "All_V_norm")
        try:
            content = load_mat(Path(path), *keys)
            patch = content["All_FaceIndices"].ravel().astype(np.int64)
            corners = content["All_Faces"].astype(np.int64) - 1  # MATLAB counts from 1
            vertex = content["All_vertices"].ravel().astype(np.int64) - 1
            uv = np.stack([content[k].ravel().astype(np.float64) for k in ("All_U_norm", "All_V_norm")], axis=1)
        except (OSError, ValueError, IndexError) as error:
            raise ProtocolError(f"{path}: this is no UV_Processed.mat of DensePose ({error}).") from None
        of_mesh = {tuple(sorted(face)): i for i, face in enumerate(faces.tolist())}
        found = [of_mesh.get(tuple(sorted(face))) for face in vertex[corners].tolist()]
        if any(f is None for f in found):
            raise ProtocolError(f"{path}: its faces are not those of the estimator's mesh, which must be SMPL's.")
        self._face = np.array(found, dtype=np.int64)
        self._vertex = vertex[corners]
        self._mesh_faces = faces.numpy(force=True)
        placed = uv[corners]
        placed[..., 0] += _PATCHES_APART * patch[:, None]
        flat, index = np.unique(placed.reshape(-1, 2), axis=0, return_inverse=True)
        self._plane = PlanarMesh(flat, index.reshape(-1, 3))

    def locate(
        self, part: Int[Tensor, " points"], uv: Float[Tensor, "points 2"]
    ) -> tuple[Int[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Faces of the mesh and barycentric coordinates at (part, u, v); off a chart, its nearest point."""
        queries = uv.double().numpy() + [_PATCHES_APART, 0] * part.numpy()[:, None]
        found = self._plane.locate(queries)
        face = self._face[found.face]
        # The file may list a face's corners in another order than the mesh.
        order = (self._mesh_faces[face][:, :, None] == self._vertex[found.face][:, None, :]).argmax(axis=2)
        weights = np.take_along_axis(found.barycentric, order, axis=1)
        return torch.from_numpy(face), torch.from_numpy(weights).float()


class CorrespondenceScorer(Scorer):
    """Geodesic distance between the annotated point of the skin and the one that the estimate shows there.

    A mesh is drawn into the photo. An estimator without meshes is asked for its map of the skin
    (`kouros.render.maps.DenseMaps.iuv`), whose charts are those of the body that the protocol stands in with.
    """

    def __init__(self, setting: Setting) -> None:
        self._estimator = setting.estimator
        self._body = setting.estimator.body or require_body(
            replace(setting, estimator=setting.stand_in), "asks which point of its skin each pixel shows"
        )
        self._locate = _charts(setting, self._body)
        self._geodesics = Geodesics(self._body.v_template, self._body.faces, limit=_LIMIT)
        self._rcp = DensePoseRCP()

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        return [self._one(person) for person in people]

    def _one(self, person: Judged) -> dict[str, float]:
        points = person.sample.dense_points
        if points is None or not len(points):
            return {}
        known = torch.tensor(np.array(points, dtype=np.float32))
        face, barycentric = self._locate(known[:, 2].round().long(), known[:, 3:])
        distances = torch.full((len(known),), torch.inf)
        shown, weights = self._seen(person, known[:, :2])
        on = shown >= 0
        if bool(on.any()):
            distances[on] = self._geodesics.between(shown[on], weights[on], face[on], barycentric[on]).float()
        self._rcp.update(distances)
        return {"fr10": float((distances > 0.1).float().mean())}

    def _seen(self, person: Judged, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Faces (-1: none) and barycentric coordinates of the skin at some pixels."""
        if has_mesh(person.estimate):
            return self._drawn(person, pixels)
        dense, square = person.estimate.dense, person.estimate.square
        if dense is None or dense.iuv is None or square is None:
            raise ProtocolError(f"{self._estimator.name} answered with neither a mesh nor a map of the skin (IUV).")
        rows = dense.iuv.shape[-3]
        cell = ((pixels - square[:2]) / square[2] + 0.5) * rows
        column, row = cell.floor().long().T
        inside = (column >= 0) & (column < rows) & (row >= 0) & (row < rows)
        iuv = dense.iuv[row.clamp(0, rows - 1), column.clamp(0, rows - 1)]
        part = iuv[:, 0].round().long()
        on = inside & (part > 0)
        face, weights = torch.full((len(pixels),), -1), torch.zeros(len(pixels), 3)
        if bool(on.any()):
            face[on], weights[on] = self._locate(part[on], iuv[on, 1:])
        return face, weights

    def _drawn(self, person: Judged, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the mesh."""
        # Only the part of the photo around the points is drawn.
        low = pixels.min(dim=0).values.floor()
        width, height = (int(n) + 1 for n in (pixels.max(dim=0).values.floor() - low))
        camera = through_window(cameras_of([person.estimate]), low)
        mesh = meshes_of([person.estimate], self._body)
        seen = rasterize(mesh.vertices, self._body.faces, camera, (height, width))
        column, row = (pixels - low).floor().long().T
        return seen.face[0, row, column], seen.barycentric[0, row, column]

    def scores(self) -> dict[str, float]:
        """Areas and failure rate."""
        both = self._rcp.compute()
        return {"auc10": float(both.auc10), "auc30": float(both.auc30), "fr10": float(both.fr10)}

    def curve(self) -> Curve | None:
        """The ratio of correct points."""
        ratio = tuple((100 * self._rcp.compute().rcp).tolist())
        return Curve("geodesic error, cm", "correct points, %", tuple(map(float, range(31))), {"RCP": ratio})


@lru_cache(maxsize=1)
def own_charts(body: BodyModel) -> Charts:
    """Takes seconds, so it is kept."""
    return build_charts(body)


def _charts(setting: Setting, body: BodyModel):  # type: ignore[no-untyped-def]
    """Where annotated points lie on the estimator's mesh."""
    if setting.info.provenance.get("surface") == OWN_CHARTS:
        return lambda part, uv: own_charts(body).locate(part, uv)[:2]
    if setting.truth.densepose is None:
        raise ProtocolError(
            "DensePose's points are on SMPL's mesh: judge a system on SMPL (--body SMPL_NEUTRAL.pkl) and put "
            "DensePose's UV_Processed.mat into the --smpl folder."
        )
    return OfficialCharts(setting.truth.densepose, body.faces).locate


MINIVAL = EvaluationProtocol(
    name="densepose-coco",
    title="DensePose-COCO, surface correspondence",
    card=ProtocolCard(
        dataset="DensePose-COCO",
        split="minival (or valminusminival: the table's)",
        subjects="all people with annotated points",
        cameras="one",
        frames="all",
        joints="none: annotated points of the surface",
        regressor="none: the face that the drawn mesh shows at each annotated pixel",
        alignment="none",
        gender="none",
        units="RCP(t): share of all points nearer than t along the skin; AUC10, AUC30: its mean up to 10 and 30 cm, in "
        "[0, 1]; FR10: % farther than 10 cm",
        excluded="people without points; a pixel that the body does not cover is infinitely far",
        source="HoloPose (Guler and Kokkinos, CVPR 2019), Sec. 5.2, Table 1 and Fig. 5",
        open_points="distances are solved on the estimator's template mesh (0.9 % too long on average), not read from "
        "the official file; the paper does not name its part of the validation images",
    ),
    rows=Rows(
        datasets=("densepose_coco",),
        importer="kouros import densepose FOLDER --out DIR --split minival",
        needs=("dense_points",),
    ),
    measures=(
        Measure("auc10", "AUC10", "", 1.0, 3, True),
        Measure("auc30", "AUC30", "", 1.0, 3, True),
        percent("fr10", "FR10", higher_is_better=False),
    ),
    scorer=CorrespondenceScorer,
    papers=(
        PaperTable(
            "HoloPose (Guler and Kokkinos, CVPR 2019)",
            "Table 1",
            paper_rows(
                "auc10 auc30 fr10",
                """
                HMR | 0.18 | 0.40 | 60.7
                HoloPose | 0.24 | 0.47 | 51.1
                HoloPose + synergy | 0.29 | 0.53 | 44.6
                HoloPose's DensePose branch | 0.40 | 0.63 | 32.0
                """,
            ),
        ),
    ),
)
PROTOCOLS = (MINIVAL,)
