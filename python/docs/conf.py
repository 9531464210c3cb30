"""Configuration of Sphinx: `python -m sphinx -W python/docs OUTPUT`, with subquad installed."""

from subquad import __version__

project = "subquad"
author = "The subquad developers"
copyright = f"2026, {author}"
release = __version__
language = "en_GB"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}

autodoc_typehints = "none"  # the docstrings state types together with shapes
numpydoc_show_class_members = False
# A summary, parameters that match the signature, a section on what is returned: for all but the
# twins, which refer to what they mirror, and the results, which callers read but do not make.
numpydoc_validation_checks = {"GL08", "SS01", "PR01", "PR02", "PR03", "RT01"}
numpydoc_validation_exclude = {
    r"^subquad\.reference\.",
    r"^subquad\.(CertificateError|Gradients|Info|Plan|halfspace\.(Info|Stats)|pebble\.(Count|Crossover|Dag|Devices?|Distances|IO\w+|ImprovedOrder|LowerBound|PebbleError|Player|Result|Sweep|Traffic)|polynomial\.(Factors|Feasib\w+)|toeplitz\.Bias)$",
    r"\.__\w+__$",
}
