"""Sphinx configuration. Pages are MyST notebooks; their code cells run at each build."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# Also where there is an accelerator, so that the pages come out the same everywhere.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "gradtx"
author = "The gradtx authors"
copyright = author
version = release = installed_version("gradtx")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
    "pages",
]
# Of the published results, each study's page of tables is a page here too.
exclude_patterns = ["_build", "results/*.md", "results/site", "results/*/*.parts*"]
html_theme = "sphinx_book_theme"
html_title = f"gradtx {version}"
html_theme_options = {"show_toc_level": 2}
html_static_path = ["_static"]
html_css_files = ["gradtx.css"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables made by cells

maximum_signature_line_length = 110
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # classes show theirs, as written: see _ext/docstrings.py
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

intersphinx_timeout = 5
intersphinx_mapping = {
    "jax": ("https://docs.jax.dev/en/latest/", None),
    "flax": ("https://flax.readthedocs.io/en/latest/", None),
    "optax": ("https://optax.readthedocs.io/en/latest/", None),
}


def _unreachable_is_no_warning(record: logging.LogRecord) -> bool:
    """Without a network, names of other projects stay plain text. Sphinx has no category to suppress that by."""
    if str(record.msg).startswith("failed to reach any of the inventories"):
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(_unreachable_is_no_warning)
