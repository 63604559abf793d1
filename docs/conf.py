"""How Sphinx makes the site: `make docs`; what is special about this one is in `docsite`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from docsite.project import PROJECT  # noqa: E402  # found by the line above

project = "Iterable provider for Apache Airflow"
author = "the contributors"
version = release = PROJECT.version
html_title = f"{project} {version}"
html_baseurl = PROJECT.urls["Documentation"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "docsite"]
root_doc = "index"
# Generated pages are `.markdown` and `.rst`, so that whoever looks for `*.md` finds what people wrote.
source_suffix = {".md": "markdown", ".markdown": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["docsite", "**/__pycache__"]
nitpicky = True
# The types of other packages: their inventories are on the internet, which a build does not need.
nitpick_ignore_regex = [("py:.*", r"(?!airflow_provider_iterable\.).*")]
# What public classes are annotated with, and nobody is to use by itself.
nitpick_ignore = [
    ("py:class", "airflow_provider_iterable.api.client.CallLog"),
    ("py:class", "airflow_provider_iterable.api.client.Client"),
    ("py:class", "airflow_provider_iterable.sandbox.project.project.Project"),
]
linkcheck_timeout = 20

myst_heading_anchors = 6
suppress_warnings = ["myst.header"]  # pages begin sections where they need them
highlight_language = "none"  # blocks that say no language have none

html_theme = "furo"  # brings all that its pages need: nothing is loaded from elsewhere
html_static_path: list[str] = []
html_logo = "integration-logos/airflow-provider-iterable.svg"
html_copy_source = False

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
toc_object_entries = False  # each has a heading of its own
default_role = "code"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
