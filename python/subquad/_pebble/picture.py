"""A graph as a picture for notebooks."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from .dag import Dag
from .layout import layout

__all__ = ["svg"]

_ACROSS, _DOWN, _MARGIN = 90.0, 40.0, 32.0
# With more vertices than that, names would not be readable.
_NAMED = 80


def svg(dag: Dag) -> str:
    """Return the graph in layers, in the colour of the text around; wanted values have two rings."""
    places = layout(dag)
    x = [_MARGIN + _ACROSS * at for at in places.layer]
    y = [_MARGIN + _DOWN * at for at in places.height]
    lowest = max([*places.height, *(h for route in places.routes for h in route)], default=0.0)
    width = 2 * _MARGIN + _ACROSS * max(0, places.layers - 1)
    height = 2 * _MARGIN + _DOWN * lowest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"',
        f' aria-label="{escape(repr(dag))}" style="max-width: 100%; width: {width:g}px">',
    ]
    outputs = set(dag.outputs.tolist())
    for (u, v), route in zip(dag.edges.tolist(), places.routes, strict=True):
        # Between the rings, which are not filled.
        points = [(x[u] + max(_rings(u in outputs)), y[u])]
        points += [(x[u] + _ACROSS * (i + 1), _MARGIN + _DOWN * at) for i, at in enumerate(route)]
        parts.append(_curve([*points, (x[v] - max(_rings(v in outputs)), y[v])]))
    named = dag.num_vertices <= _NAMED
    for v, name in enumerate(dag.names):
        parts.append(_vertex(x[v], y[v], escape(name), v in outputs, named))
    return "".join([*parts, "</svg>"])


def _rings(wanted: bool) -> tuple[int, ...]:
    return (7, 11) if wanted else (7,)


def _curve(points: list[tuple[float, float]]) -> str:
    path = f"M{points[0][0]:g},{points[0][1]:g}"
    for (a, b), (c, d) in pairwise(points):
        bend = (c - a) * 0.45
        path += f"C{a + bend:g},{b:g} {c - bend:g},{d:g} {c:g},{d:g}"
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity=".4"/>'


def _vertex(x: float, y: float, name: str, wanted: bool, named: bool) -> str:
    circles = "".join(f'<circle r="{r}"/>' for r in _rings(wanted))
    style = 'fill="currentColor" stroke="none" font-size="11" text-anchor="middle"'
    text = f'<text y="23" {style}>{name}</text>' if named else ""
    return (
        f'<g transform="translate({x:g} {y:g})" stroke="currentColor" fill="none"><title>{name}</title>'
        f"{circles}{text}</g>"
    )
