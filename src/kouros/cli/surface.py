"""``kouros surface``: pictures of a body's part labels, UV atlas, charts, joint assignment and dense maps."""

from dataclasses import dataclass
from pathlib import Path

from kouros.cli.usage import UsageError


@dataclass(frozen=True)
class Surface:
    """Draw what lies on a body's surface: part labels, UV atlas, charts, joint assignment, dense maps."""

    out: Path
    """Folder for the pictures; made where it is missing."""
    body: Path | None = None
    """An SMPL file or a free body; without it the packaged one."""
    uv: Path | None = None
    """An OBJ file with a UV map for the body's mesh; without it the body file's own, else packed charts."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        import cv2

        from kouros.body import load_body
        from kouros.body.surface import body_surface
        from kouros.cli.reconstruct import load_body_of
        from kouros.render import surface_pictures

        body = load_body_of(self.body) or load_body()
        joints = "lsp14" if "lsp14" in body.keypoint_sets else "smpl24"
        if self.uv is not None and not self.uv.is_file():
            raise UsageError(f"--uv {self.uv}: there is no such file.")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out}: this is a file; expected a folder, or a name to make one.")
        try:
            surface = body_surface(body, obj=self.uv, joints=joints)
            self.out.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise UsageError(str(error)) from None
        pictures = {
            "parts": surface_pictures.parts_picture(body, surface),
            "atlas": surface_pictures.atlas_picture(body, surface),
            "charts": surface_pictures.charts_picture(surface),
            "assignment": surface_pictures.assignment_picture(body, surface),
            "maps": surface_pictures.maps_picture(body, surface),
        }
        for name, picture in pictures.items():
            path = self.out / f"surface_{name}.png"
            written = cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
            if not written:
                raise UsageError(f"cannot write {path}; choose a folder that can be written to.")
            print(path)
        return 0
