"""An own system as an estimator: it makes people, is refined by the fit, and stands beside the default.

An estimator is shown people in photos and answers for each. This one knows nothing and says so: everybody stands
upright, arms down, in the middle of the box. Yours would run a network on `person.image`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

import kouros
from kouros.body.parameters import Bodies
from kouros.pipeline.comparing import compare
from kouros.pipeline.reconstructor import Reconstructor, default_reconstructor
from kouros.systems.estimator import Estimate, PersonInPhoto
from kouros.systems.refined import Refined


class Standing:
    """Everybody stands, 1.7 m tall."""

    name = "standing"
    needs_keypoints = False
    points_3d = points_2d = None

    def __init__(self, body: kouros.BodyModel) -> None:
        self.body = body

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """One body each."""
        return [self._one(person) for person in people]

    def _one(self, person: PersonInPhoto) -> Estimate:
        pose = torch.zeros(72)
        pose[0] = torch.pi  # from body space (y up) to the camera's (y down)
        pose[3 * 16 + 2], pose[3 * 17 + 2] = -1.2, 1.2  # shoulders
        camera, box = person.camera, torch.tensor(person.box.tolist())
        depth = 1.7 * camera.focal_length / (box[3] - box[1])
        middle = ((box[:2] + box[2:]) / 2 - camera.principal_point) / camera.focal_length * depth
        transl = torch.cat([middle, depth[None]])
        return Estimate(bodies=Bodies(pose, torch.zeros(self.body.num_betas), transl, camera))


default = default_reconstructor()
standing = Standing(default.body)
systems = {
    "default": default,
    "standing": Reconstructor(default.detector, standing, default.body),
    "standing, fitted": Reconstructor(default.detector, Refined(standing), default.body),
}
seen = default.see(Path(kouros.__file__).parent / "data" / "demo" / "people.jpg")
apart = 1000 * compare(systems, seen).distances()
for name, row in zip(systems, apart, strict=True):
    print(f"{name:18s}", "  ".join(f"{value:4.0f} mm" for value in row))
