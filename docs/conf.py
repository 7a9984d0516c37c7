"""How Sphinx makes a site of these documents: `make docs`. They are read as they are as well."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

project = "ya-salt"
author = "ya-salt maintainers"
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["man", "dashboards", "schemas"]

html_theme = "alabaster"
html_theme_options = {
    "description": "Small daemons in Porto containers, from exact Debian packages, always",
    "fixed_sidebar": True,
    "page_width": "72em",
}
html_show_copyright = False

# So that links to sections, as GitHub has them, are checked: a wrong one is a warning.
myst_heading_anchors = 4
nitpicky = True
# A page that index.md does not list is found by the others' links, which are checked.
suppress_warnings = ["toc.not_included"]


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", name_files)


def name_files(app: Sphinx, document: nodes.document) -> None:
    """A link to a file or folder of the repository that is no page: its name, if it is there."""
    for link in list(document.findall(pending_xref)):
        # The README is a part of the index.
        places = [Path(app.srcdir), Path(app.srcdir).parent]
        if link["reftype"] == "myst" and any((at / link["reftarget"]).exists() for at in places):
            link.replace_self(link.children)
