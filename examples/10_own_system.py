"""An own system: its network, its losses, trained on synthetic people, and what it then makes of a photo.

python examples/10_own_system.py [OUT] [STEPS]
"""

# ruff: noqa: D101, D102  what methods of systems are for is said by their base class
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import kouros
from kouros.body.parameters import Bodies
from kouros.cli import main
from kouros.cli.sources import open_source
from kouros.detection import default_detector
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.systems.estimator import Estimate
from kouros.systems.system import CropSystem, Step
from kouros.training.engine import EngineOptions, TrainingData, train
from kouros.training.runs import load_run


class Mine(CropSystem):
    crop_size, needs = 32, ("pose",)  # what it looks at, and what samples must know

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 85))

    def optimizers(self):
        return (torch.optim.Adam(self.parameters(), 1e-3),)

    def training_step(self, batch):
        bodies = self.bodies(batch.image)
        loss = (bodies.pose - batch.pose).square().mean() + 0.01 * (bodies.betas - batch.betas).square().mean()
        return Step((loss,), {"loss": loss.detach()})

    def predict(self, image):
        return Estimate(bodies=self.bodies(image))

    def bodies(self, image):
        pose, betas, camera = self.layers(image).split((72, 10, 3), dim=1)
        weak = WeakPerspectiveCamera(camera[:, 0].exp(), camera[:, 1:])
        return Bodies(pose, betas, perspective_translation(weak), nominal_crop_camera(len(pose), pose))


@dataclass(frozen=True)
class MyConfig:
    def build(self, body, num_samples):
        return Mine(body)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    main(["synthesize", "--out", str(out / "people"), "--people", "16", "--workers", "1"])
    body, people = kouros.load_body(), open_source(out / "people")
    options = EngineOptions(max_steps=int(sys.argv[2]) if len(sys.argv) > 2 else 4, batch_size=8, workers=0)
    train(MyConfig(), body, TrainingData([people]), out / "run", options)
    mine = load_run(out / "run", body, kind=MyConfig).estimator(body, "mine")
    photo = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"
    print(*kouros.Reconstructor(default_detector(), mine, body).reconstruct(photo), sep="\n")
