"""Sphinx's configuration: `make docs` builds pages and API reference into build/docs."""

import re
from pathlib import Path

from sphinx.application import Sphinx

import kouros

project = "kouros"
author = "The kouros authors"
copyright = "the kouros authors, Apache-2.0"
release = version = kouros.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["README.md", "pictures"]
default_role = "code"
html_theme = "furo"
html_title = f"kouros {release}"
html_copy_source = False

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def _readme(app: Sphinx, name: str, source: list[str]) -> None:
    """The README, whose links start from the repository's root, as a page."""
    if name == "readme":
        text = (Path(app.srcdir).parent / "README.md").read_text(encoding="utf-8")
        source[0] = re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")
        source[0] = source[0].replace("](../examples/README.md", "](examples.md")


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.connect("source-read", _readme)
