"""A play as a page to step through: one file of HTML that needs no network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from html import escape
from importlib import resources
from typing import Any

from . import files
from .dag import Dag
from .game import Count, play
from .layout import layout
from .model import Model
from .moves import Moves, take_moves

__all__ = ["MOST_VERTICES", "Player", "player"]

# What a browser draws and steps through without delay.
MOST_VERTICES = 2_000
_MOST_MOVES = 200_000
_FRAME = '<iframe title="{title}" srcdoc="{page}" style="width: 100%; height: 640px; border: 0"></iframe>'


@dataclass(frozen=True)
class Player:
    """A page on which a play is stepped through; made by `player`.

    In a notebook it is shown in a frame.

    Attributes
    ----------
    title : str
        Its heading.
    moves : Moves
        The play.
    count : Count
        What the play costs.
    html : str
        The page, which refers to nothing outside itself.
    """

    title: str
    moves: Moves
    count: Count
    html: str = field(repr=False)

    def save(self, file: files.Target) -> None:
        """Write the page.

        Parameters
        ----------
        file : str, path or open file
            Where to.
        """
        files.written(self.html, file)

    def _repr_html_(self) -> str:
        return _FRAME.format(title=escape(self.title), page=escape(self.html))


def player(
    dag: Dag,
    moves: Iterable[tuple[str, int]],
    memory: int,
    *,
    model: Model | None = None,
    title: str = "Red-blue pebbling",
) -> Player:
    """Return a page on which a play is stepped through.

    It shows the graph in layers with a pebble wherever a value is, what is in fast memory, the words moved so
    far and the list of moves; buttons, a slider and keys step through them. A page that is opened as
    ``page.html#12`` begins after 12 moves.

    Parameters
    ----------
    dag : Dag
        The computation, of at most 2,000 vertices.
    moves : Moves or iterable of (str, int)
        A legal play, of at most 200,000 moves.
    memory : int
        M, words of fast memory.
    model : Model, optional
        The game.
    title : str, optional
        The heading of the page.

    Returns
    -------
    Player
        With the page as ``html``, and a method ``save``.

    Raises
    ------
    PebbleError
        If a move is not legal.
    ValueError
        If there is more to draw than a browser can.

    Examples
    --------
    >>> from subquad.pebble import Dag, player
    >>> dag = Dag.from_edges(3, [(0, 2), (1, 2)], names=["a", "b", "a + b"])
    >>> moves = [("load", 0), ("load", 1), ("compute", 2), ("store", 2)]
    >>> page = player(dag, moves, memory=3, title="A sum")
    >>> page.html.count("https://")
    0
    """
    if not isinstance(title, str):
        raise TypeError(f"`title` must be a str, got {title!r}")
    listed = take_moves(moves)
    count = play(dag, listed, memory, model=model)
    if dag.num_vertices > MOST_VERTICES:
        raise ValueError(
            f"`dag` must have at most {MOST_VERTICES} vertices, got {dag.num_vertices}"
        )
    if len(listed) > _MOST_MOVES:
        raise ValueError(f"`moves` must be at most {_MOST_MOVES}, got {len(listed)}")
    # No text can end the element that it is in.
    data = json.dumps(_data(dag, listed, int(memory), count), separators=(",", ":"))
    data = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    template = resources.files(__package__).joinpath("player.html").read_text(encoding="utf-8")
    parts = {"TITLE": escape(title), "DATA": data}
    page = re.sub(r"\{\{(TITLE|DATA)\}\}", lambda found: parts[found[1]], template)
    return Player(title, listed, count, page)


def _data(dag: Dag, moves: Moves, memory: int, count: Count) -> dict[str, Any]:
    places = layout(dag)
    facts = f"{', '.join(dag._facts())}; {memory} word{'' if memory == 1 else 's'} of fast memory; {count.model}"
    return {
        "facts": facts,
        "memory": memory,
        "model": asdict(count.model),
        "count": {"loads": count.loads, "stores": count.stores, "peak": count.peak},
        "names": None if dag._names is None else list(dag.names),
        "weights": None if dag._weights is None else dag.weights.tolist(),
        "sources": dag.sources.tolist(),
        "outputs": dag.outputs.tolist(),
        "edges": dag.edges.tolist(),
        "layers": places.layers,
        "layer": places.layer,
        "height": places.height,
        "routes": places.routes,
        "moves": moves.array.tolist(),
    }
