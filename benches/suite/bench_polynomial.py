"""Polynomial attention against torch: softmax attention, and the same maths with features.

``track_ratio_to_<peer>`` is our time over the peer's, ``track_ratio_to_limit`` our time over what the
products with all features take at the multiply-add peak; both are better when smaller. Softmax attention
computes something else, which this is close to where logits are small: the ratio says what it is worth
to know that they are. Coefficients are those of Taylor, logits at most 1.
"""

from __future__ import annotations

import functools
import math

import numpy as np

import subquad
import subquad._subquad

from . import _polynomials as polynomials
from ._alternate import Call, over_limit, ratio
from ._polynomials import PASSES, TAYLOR, flops, inputs, one_thread, sampled_rows
from ._torch_features import by_features, fastest_by_features

Shape = tuple[int, int, int]

PEERS = {"sdpa": polynomials.sdpa, "exact": polynomials.exact}


class _Pass:
    """One head in one direction, on one thread."""

    params: tuple[list[Shape]]
    param_names = ("n, d, degree",)
    limit = "fma_f32"
    timeout = 1200
    which = "forward"
    is_causal = False
    pairs = 5
    rounds = 5

    def setup(self, shape: Shape) -> None:
        one_thread()
        n, d, degree = shape
        self.arrays = inputs(n, d, 3 if self.which == "forward" else 4)
        self.coefficients = TAYLOR[: degree + 1]

    def ours(self, workers: int = 1) -> object:
        options = {"scale": 1.0, "is_causal": self.is_causal, "workers": workers}
        if self.which == "forward":
            return subquad.polynomial_attention(*self.arrays, self.coefficients, **options)
        *arrays, grad = self.arrays
        return subquad.polynomial_attention_grad(grad, *arrays, self.coefficients, **options)


class Forward(_Pass):
    """Targets L1, L2 and L3."""

    params = ([(65_536, 64, 2), (16_384, 64, 2), (262_144, 32, 3), (65_536, 128, 2)],)
    peer_flops = polynomials.PEER_FLOPS

    def peer(self, rows: int) -> Call:
        """Return softmax attention of so many of the queries."""
        return polynomials.sdpa_forward(self.arrays, rows)

    def rows(self, shape: Shape) -> int:
        """Return how many queries the peer gets."""
        return sampled_rows(*shape[:2], self.peer_flops)

    def track_ratio_to_sdpa(self, shape: Shape) -> float:
        rows = self.rows(shape)
        return ratio(self.ours, self.peer(rows), self.pairs) * rows / shape[0]

    def track_ratio_to_limit(self, shape: Shape) -> float:
        return over_limit(self.ours, self.track_flops(shape), self.limit, self.rounds)

    def track_flops(self, shape: Shape) -> float:
        return flops(shape, PASSES[self.which])

    track_flops.unit = "flops"

    def time_pass(self, shape: Shape) -> None:
        self.ours()

    def peakmem_pass(self, shape: Shape) -> None:
        self.ours()


class Backward(Forward):
    """From the inputs alone; the peer's forward pass is not timed: targets L1 and L2."""

    params = ([(65_536, 64, 2), (16_384, 64, 2)],)
    which = "backward"

    def peer(self, rows: int) -> Call:
        return polynomials.sdpa_backward(self.arrays, rows)


class Causal(Forward):
    """Target L4. The peer does all queries, for causal ones do not all take the same."""

    params = ([(65_536, 64, 2), (16_384, 64, 2)],)
    is_causal = True
    pairs = 3
    peer_flops = math.inf

    def peer(self, rows: int) -> Call:
        return polynomials.sdpa_causal(self.arrays, rows)

    def track_ratio_to_plain(self, shape: Shape) -> float:
        """Over the same without a mask."""
        options = {"scale": 1.0, "workers": 1}
        plain = functools.partial(
            subquad.polynomial_attention, *self.arrays, self.coefficients, **options
        )
        return ratio(self.ours, plain, self.pairs)


class Half:
    """Sums by products in bf16 over those in float32, as attention within a budget takes them."""

    params = ([(65_536, 64, 2), (16_384, 64, 2)],)
    param_names = _Pass.param_names
    pairs = 5

    def setup(self, shape: Shape) -> None:
        if not subquad._subquad.bf16:
            raise NotImplementedError("the machine has no products in bf16")
        one_thread()
        n, d, degree = shape
        self.inputs = [array[np.newaxis] for array in inputs(n, d)]
        self.inputs.append(np.ones((1, n), np.float32))
        self.terms = np.array(TAYLOR[: degree + 1])
        self.out = np.empty((1, n, d), np.float32), np.empty((1, n), np.float32)

    def sums(self, half: bool) -> object:
        options = {"scale": 1.0, "shift": None, "workers": 1, "half": half}
        return subquad._subquad.polynomial_sums(*self.inputs, self.terms, *self.out, **options)

    def track_ratio_to_float32(self, shape: Shape) -> float:
        return ratio(lambda: self.sums(True), lambda: self.sums(False), self.pairs)


class Certified:
    """Softmax attention within eps by polynomials, its plan and its bounds included."""

    params = ([(65_536, 64), (16_384, 64)],)
    param_names = ("n, d",)
    timeout = 1200
    eps = 1e-2
    pairs = 3
    peer_flops = polynomials.PEER_FLOPS

    def setup(self, size: tuple[int, int]) -> None:
        one_thread()
        self.arrays = polynomials.flat(*size)

    def ours(self) -> object:
        return subquad.attention(
            *self.arrays, eps=self.eps, method="polynomial", return_info=True, workers=1
        )

    def rows(self, size: tuple[int, int]) -> int:
        """Return how many queries the peer gets."""
        return sampled_rows(*size, self.peer_flops)

    def track_ratio_to_sdpa(self, size: tuple[int, int]) -> float:
        rows = self.rows(size)
        peer = polynomials.sdpa_forward(self.arrays, rows, 1.0 / math.sqrt(size[1]))
        return ratio(self.ours, peer, self.pairs) * rows / size[0]

    def track_ratio_to_uncertified(self, size: tuple[int, int]) -> float:
        """Over `polynomial_attention` of the highest degree that it takes."""
        degree = self.track_degree(size)
        terms = TAYLOR[: degree + 1]
        return ratio(
            self.ours,
            lambda: subquad.polynomial_attention(*self.arrays, terms, workers=1),
            self.pairs,
        )

    def track_degree(self, size: tuple[int, int]) -> int:
        _, info = self.ours()
        return int(info.stats["degree"])

    def track_rows_recomputed(self, size: tuple[int, int]) -> int:
        _, info = self.ours()
        return int(info.stats["rows_recomputed"])


class Million:
    """Forward and backward pass over a million tokens, as a share of the limit: target L2."""

    params = ([(1_048_576, 64, 2)],)
    param_names = _Pass.param_names
    limit = "fma_f32"
    timeout = 1200
    rounds = 2

    def setup(self, shape: Shape) -> None:
        self.backward, self.forward = Backward(), Forward()
        self.backward.setup(shape)
        self.forward.arrays = self.backward.arrays[:3]
        self.forward.coefficients = self.backward.coefficients

    def ours(self) -> None:
        self.forward.ours()
        self.backward.ours()

    def track_ratio_to_limit(self, shape: Shape) -> float:
        work = flops(shape, sum(PASSES.values()))
        return over_limit(self.ours, work, self.limit, self.rounds)


class SameMaths(_Pass):
    """The same numbers with torch: target L5.

    Features gathered for 4096 tokens at a time, or made and multiplied in whichever of ten ways is
    fastest here.
    """

    params = ([(65_536, 64, 2)],)

    def track_ratio_to_torch_features(self, shape: Shape) -> float:
        return ratio(self.ours, by_features(self.arrays, 4096), self.pairs)

    def track_ratio_to_fastest_torch_features(self, shape: Shape) -> float:
        return ratio(self.ours, fastest_by_features(self.arrays), self.pairs)


class Crossover:
    """Tokens from which it is the faster one, over half the number of features: 1 is expected."""

    params = ([(16, 3), (32, 2), (64, 2), (32, 3), (128, 2)], ["sdpa", "exact"])
    param_names = ("d, degree", "peer")
    timeout = 1200
    spend = 1.0
    """Seconds per number of tokens."""

    def setup(self, shape: tuple[int, int], peer: str) -> None:
        one_thread()

    def track_ratio_of_crossover_to_half_features(self, shape: tuple[int, int], peer: str) -> float:
        return polynomials.crossover(*shape, PEERS[peer], self.spend)


class Workers(_Pass):
    """Time on two workers over the time on one: 0.5 would be perfect."""

    params = ([(65_536, 64, 2)], ["forward", "backward"])
    param_names = ("n, d, degree", "pass")

    def setup(self, shape: Shape, which: str) -> None:
        if subquad._subquad.cores() < 2:
            raise NotImplementedError("one core")
        self.which = which
        super().setup(shape)

    def track_ratio_to_one_worker(self, shape: Shape, which: str) -> float:
        return ratio(lambda: self.ours(workers=2), self.ours, self.pairs)


class Accuracy:
    """Largest row error of float32 over the spread of values and of outputs, against float64."""

    params = ([(1_048_576, 64, 2)],)
    param_names = _Pass.param_names
    timeout = 1200

    def setup(self, shape: Shape) -> None:
        one_thread()
        self.over_values, self.over_outputs = polynomials.accuracy(*shape)

    def track_ratio_of_error_to_spread(self, shape: Shape) -> float:
        return self.over_values

    def track_ratio_of_error_to_spread_of_output(self, shape: Shape) -> float:
        return self.over_outputs
