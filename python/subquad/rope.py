"""Rotary positions: rows whose pairs of coordinates are turned by angles that grow with the position.

`rotate` turns rows; `attention` is softmax attention of turned queries and keys by any method of
`subquad.attention`, and `attention_grad` its gradient. `frequencies` are the angles from one position to the
next, stretched for longer contexts if asked.

No Fourier transform is needed, although logits depend on differences of positions: they are inner products
of rows that are turned one by one.
"""

from ._rope import rotate
from ._rope_attention import attention, attention_grad
from ._rope_scaling import frequencies

__all__ = ["attention", "attention_grad", "frequencies", "rotate"]
