"""Softmax attention by polynomials of its logits, with a bound for every row.

For any vectors m and n, with ``x = q - m`` and ``y = k - n``,

    exp(scale q.k) = exp(scale q.n) exp(scale m.y) exp(scale x.y):

a factor per query, which softmax does not notice, a mass per key, and an exponential of smaller logits
when m and n are means. A polynomial in place of the last one makes a row a quotient of sums over keys that
are taken once for all queries. `head` centres, `measures` says how large the logits are, `bounds` what a
polynomial does to a row, `choice` which polynomial is for which row, `forward` and `backward` compute.
"""
