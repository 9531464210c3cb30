from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HalfspaceIndex",
    "PebbleAttention",
    "PebbleDag",
    "PebbleImprover",
    "PebbleSearch",
    "PebbleTrace",
    "__version__",
    "attention_backward",
    "attention_bounds",
    "attention_forward",
    "attention_kernel",
    "best_isa",
    "bf16",
    "cores",
    "get_num_threads",
    "isa",
    "matrix_product",
    "measure_limits",
    "pebble_depth_first",
    "pebble_family_order",
    "pebble_generate",
    "pebble_greedy",
    "pebble_names",
    "pebble_natural",
    "pebble_play",
    "pebble_simulate",
    "polynomial_backward",
    "polynomial_block_rows",
    "polynomial_block_rows_grad",
    "polynomial_block_sums",
    "polynomial_block_sums_grad",
    "polynomial_features",
    "polynomial_forward",
    "polynomial_sums",
    "polynomial_sums_grad",
    "polynomial_weights",
    "profile",
    "rescaled_toeplitz",
    "rescaled_toeplitz_grad",
    "rope_rotate",
    "set_num_threads",
    "set_task_order",
    "toeplitz_backward",
    "toeplitz_forward",
    "toeplitz_product",
    "toeplitz_product_grad",
]

__version__: str
isa: str
best_isa: str
bf16: bool
profile: str

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def cores() -> int: ...
def set_task_order(order: str) -> None: ...
def matrix_product(
    a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], *, workers: int
) -> None: ...
def toeplitz_product(
    weights: NDArray[Any],
    x: NDArray[Any],
    out: NDArray[Any],
    *,
    transpose: bool,
    workers: int,
    which: list[int] | None = None,
) -> None: ...
def toeplitz_product_grad(
    grad_out: NDArray[Any],
    x: NDArray[Any],
    grad_weights: NDArray[Any],
    *,
    workers: int,
    which: list[int] | None = None,
) -> None: ...
def rescaled_toeplitz(
    weights: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    x: NDArray[Any],
    out: NDArray[Any],
    *,
    workers: int,
) -> None: ...
def rescaled_toeplitz_grad(
    weights: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    x: NDArray[Any],
    grad_out: NDArray[Any],
    grad_left: NDArray[Any] | None,
    grad_right: NDArray[Any] | None,
    grad_x: NDArray[Any] | None,
    grad_weights: NDArray[Any] | None,
    *,
    workers: int,
) -> None: ...
def measure_limits(seconds: float) -> dict[str, float]: ...
def polynomial_forward(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    coefficients: NDArray[np.float64],
    out: NDArray[Any],
    *,
    scale: float,
    shift: int | None,
    workers: int,
) -> tuple[bool, dict[str, int], tuple[int, int, float, float] | None]: ...
def polynomial_backward(
    grad_out: NDArray[Any],
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    coefficients: NDArray[np.float64],
    grad_query: NDArray[Any] | None,
    grad_key: NDArray[Any] | None,
    grad_value: NDArray[Any] | None,
    grad_coefficients: NDArray[np.float64] | None,
    *,
    double: bool,
    scale: float,
    shift: int | None,
    workers: int,
) -> tuple[bool, dict[str, int], tuple[int, int, float, float] | None]: ...
def polynomial_sums(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    masses: NDArray[Any],
    coefficients: NDArray[np.float64],
    rows: NDArray[Any],
    sums: NDArray[Any],
    *,
    scale: float,
    shift: int | None,
    workers: int,
    lead: int | None = None,
    half: bool = False,
) -> tuple[bool, dict[str, int]]: ...
def polynomial_sums_grad(
    grad_rows: NDArray[Any],
    grad_sums: NDArray[Any],
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    masses: NDArray[Any],
    coefficients: NDArray[np.float64],
    grad_query: NDArray[Any] | None,
    grad_key: NDArray[Any] | None,
    grad_value: NDArray[Any] | None,
    grad_masses: NDArray[Any] | None,
    *,
    scale: float,
    shift: int | None,
    workers: int,
    lead: int | None = None,
) -> tuple[bool, dict[str, int]]: ...
def polynomial_block_sums(
    key: NDArray[Any],
    value: NDArray[Any],
    weights: NDArray[Any],
    coefficients: NDArray[np.float64],
    sums: NDArray[Any],
    masses: NDArray[Any],
    *,
    scale: float,
    block: int,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def polynomial_block_rows(
    query: NDArray[Any],
    weights: NDArray[Any],
    sums: NDArray[Any],
    masses: NDArray[Any],
    rows: NDArray[Any],
    row_masses: NDArray[Any],
    *,
    degree: int,
    block: int,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def polynomial_block_rows_grad(
    grad_rows: NDArray[Any],
    grad_row_masses: NDArray[Any],
    query: NDArray[Any],
    weights: NDArray[Any],
    sums: NDArray[Any],
    masses: NDArray[Any],
    grad_query: NDArray[Any] | None,
    grad_weights: NDArray[Any] | None,
    grad_sums: NDArray[Any] | None,
    grad_masses: NDArray[Any] | None,
    *,
    degree: int,
    block: int,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def polynomial_block_sums_grad(
    grad_sums: NDArray[Any],
    grad_masses: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    weights: NDArray[Any],
    coefficients: NDArray[np.float64],
    grad_key: NDArray[Any] | None,
    grad_value: NDArray[Any] | None,
    grad_weights: NDArray[Any] | None,
    *,
    scale: float,
    block: int,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def polynomial_features(
    x: NDArray[Any], degree: int, out: NDArray[Any], *, workers: int
) -> None: ...
def polynomial_weights(dim: int, degree: int) -> NDArray[np.float64]: ...
def rope_rotate(
    x: NDArray[Any],
    positions: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    out: NDArray[Any],
    *,
    interleaved: bool,
    factor: float,
    inverse: bool,
    workers: int,
) -> bool: ...
def toeplitz_forward(
    left: NDArray[Any],
    right: NDArray[Any],
    value: NDArray[Any],
    weights: NDArray[Any],
    out: NDArray[Any],
    lse: NDArray[Any],
    *,
    scale: float,
    shift: int | None,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def toeplitz_backward(
    grad_out: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    value: NDArray[Any],
    weights: NDArray[Any],
    out: NDArray[Any],
    lse: NDArray[Any],
    grad_left: NDArray[Any],
    grad_right: NDArray[Any],
    grad_value: NDArray[Any],
    grad_weights: NDArray[np.float64],
    *,
    scale: float,
    shift: int | None,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def attention_kernel(queries: int, keys: int) -> str: ...
def attention_forward(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    bias: NDArray[Any] | None,
    lags: NDArray[Any] | None,
    out: NDArray[Any],
    lse: NDArray[Any] | None,
    *,
    scale: float,
    shift: int | None,
    window: int | None,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def attention_backward(
    grad_out: NDArray[Any],
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    bias: NDArray[Any] | None,
    lags: NDArray[Any] | None,
    out: NDArray[Any],
    lse: NDArray[Any],
    grad_query: NDArray[Any] | None,
    grad_key: NDArray[Any] | None,
    grad_value: NDArray[Any] | None,
    grad_bias: NDArray[Any] | None,
    grad_lags: NDArray[np.float64] | None,
    *,
    scale: float,
    shift: int | None,
    window: int | None,
    workers: int,
) -> tuple[bool, dict[str, int]]: ...
def attention_bounds(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    bias: NDArray[Any] | None,
    lags: NDArray[Any] | None,
    out: NDArray[Any],
    *,
    scale: float,
    shift: int | None,
    window: int | None,
    workers: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

@final
class HalfspaceIndex:
    def __new__(
        cls,
        keys: NDArray[Any],
        queries: NDArray[np.float32] | None,
        method: str,
        workers: int | None,
    ) -> HalfspaceIndex: ...
    def __len__(self) -> int: ...
    def report(
        self,
        query: NDArray[np.float32],
        threshold: float,
        strict: bool,
        scores: bool,
        info: bool,
        workers: int | None,
    ) -> tuple[NDArray[np.int64], tuple[NDArray[np.float32] | None, dict[str, Any] | None]]: ...
    def report_batch(
        self,
        queries: NDArray[np.float32],
        thresholds: NDArray[np.float64],
        strict: bool,
        scores: bool,
        info: bool,
        workers: int | None,
    ) -> tuple[
        NDArray[np.int64],
        NDArray[np.int64],
        tuple[NDArray[np.float32] | None, dict[str, Any] | None],
    ]: ...
    def count(
        self, query: NDArray[np.float32], threshold: float, strict: bool, workers: int | None
    ) -> int: ...
    def topk(
        self, queries: NDArray[np.float32], k: int, scores: bool, workers: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]: ...
    def add(self, keys: NDArray[Any], workers: int | None) -> tuple[int, int]: ...
    def remove(self, ids: NDArray[np.int64]) -> None: ...
    def compact(self, workers: int | None) -> None: ...
    def save(self, path: str) -> None: ...
    @staticmethod
    def load(path: str, mmap: bool) -> HalfspaceIndex: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes) -> HalfspaceIndex: ...
    def copy(self) -> HalfspaceIndex: ...
    def stats(self) -> dict[str, Any]: ...

# Loads and stores by class, peak, flops, workspace, steps.
_Figures: TypeAlias = tuple[tuple[int, int, int], tuple[int, int, int], int, int, int, int]
_Member: TypeAlias = tuple[str, list[tuple[str, int]]]

@final
class PebbleAttention:
    def __new__(
        cls,
        queries: int,
        keys: int,
        group: int,
        width: int,
        scale: float,
        *,
        causal: bool,
        mask: NDArray[np.bool_] | None,
        block: int,
    ) -> PebbleAttention: ...
    def pairs(self) -> int: ...
    def least_memory(self, widths: list[int], direction: str) -> int: ...
    def plans(
        self, memories: list[int], widths: list[int], direction: str
    ) -> list[list[tuple[str, tuple[_Member, _Figures] | None]]]: ...
    def predict(
        self, name: str, sizes: list[int], widths: list[int], direction: str
    ) -> _Figures: ...
    def replay(
        self, name: str, sizes: list[int], memory: int, line: int, ways: int, direction: str
    ) -> int: ...
    def flash_rule(self, memory: int) -> list[int]: ...
    def count(
        self, name: str, sizes: list[int], memory: int, widths: list[int], direction: str
    ) -> _Figures: ...
    def execute(
        self,
        name: str,
        sizes: list[int],
        memory: int,
        widths: list[int],
        direction: str,
        inputs: list[NDArray[np.float64]],
    ) -> tuple[_Figures, list[NDArray[np.float64]]]: ...

@final
class PebbleDag:
    def __new__(
        cls,
        num_vertices: int,
        edges: NDArray[np.uint32],
        outputs: NDArray[np.uint32] | None,
        weights: NDArray[np.uint32] | None,
    ) -> PebbleDag: ...
    def sizes(self) -> tuple[int, int]: ...
    def predecessors(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]: ...
    def successors(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]: ...
    def outputs(self) -> NDArray[np.uint32]: ...
    def weights(self) -> NDArray[np.uint32] | None: ...
    def topological_order(self) -> NDArray[np.uint32]: ...
    def least_memory(self, model: tuple[bool, bool, bool, bool, float, str, str]) -> int: ...

@final
class PebbleSearch:
    def __new__(
        cls,
        dag: PebbleDag,
        memory: int,
        model: tuple[bool, bool, bool, bool, float, str, str],
        max_bytes: int,
    ) -> PebbleSearch: ...
    def advance(self, seconds: float, limit: float, workers: int) -> _PebbleReport: ...
    def progress(self) -> _PebbleReport: ...
    def moves(self) -> NDArray[np.uint32] | None: ...

# Words and computations of the bound and of the best play, states expanded, states and bytes kept, status.
_PebbleReport: TypeAlias = tuple[tuple[int, int], tuple[int, int] | None, int, int, int, str]

def pebble_play(
    dag: PebbleDag,
    moves: NDArray[np.uint32],
    memory: int,
    model: tuple[bool, bool, bool, bool, float, str, str],
) -> tuple[
    tuple[int, int, int, int, int] | None,
    tuple[int, str | None, int, str, list[int], int] | None,
]: ...
def pebble_generate(spec: tuple[str, tuple[int, ...], str, str]) -> PebbleDag: ...
def pebble_names(spec: tuple[str, tuple[int, ...], str, str], vertex: int | None) -> list[str]: ...
def pebble_simulate(
    dag: PebbleDag,
    order: NDArray[np.uint32],
    memory: int,
    policy: str,
    seed: int,
    model: tuple[bool, bool, bool, bool, float, str, str],
    moves: bool,
) -> tuple[tuple[int, int, int, int, int], NDArray[np.uint32] | None]: ...
def pebble_family_order(
    spec: tuple[str, tuple[int, ...], str, str], block: int | None
) -> NDArray[np.uint32] | None: ...
def pebble_natural(dag: PebbleDag) -> NDArray[np.uint32]: ...
def pebble_depth_first(dag: PebbleDag) -> NDArray[np.uint32]: ...
def pebble_greedy(dag: PebbleDag, memory: int) -> NDArray[np.uint32]: ...

@final
class PebbleImprover:
    def __new__(
        cls,
        dag: PebbleDag,
        order: NDArray[np.uint32],
        memory: int,
        model: tuple[bool, bool, bool, bool, float, str, str],
        budget: int,
        seed: int,
    ) -> PebbleImprover: ...
    def advance(self, evaluations: int) -> bool: ...
    def best(self) -> tuple[NDArray[np.uint32], tuple[int, int, int, int, int], int]: ...

@final
class PebbleTrace:
    def __new__(
        cls, addresses: NDArray[np.uint64], writes: NDArray[np.bool_] | None
    ) -> PebbleTrace: ...
    @staticmethod
    def attention(
        n: int, d: int, blocks: tuple[int, int] | None
    ) -> tuple[PebbleTrace, tuple[int, int]]: ...
    def length(self) -> int: ...
    def arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]: ...
    def replay(
        self, kind: tuple[int, int, str, int, bool, bool, tuple[int, int] | None]
    ) -> tuple[int, int, int, int]: ...
    def distances(self, line: int) -> tuple[list[NDArray[np.uint64]], tuple[int, int, int]]: ...
