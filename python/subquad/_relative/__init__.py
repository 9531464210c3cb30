"""Attention with a matrix for every relative position: what `_toeplitz_attention` is made of.

A logit is scale times a sum over t entries of the matrices, each a product of one number of the query, one of
the key and one of the lag. `arguments` checks them, `head` holds the numbers of one head, `exact` computes
softmax from all keys, `sums` a polynomial by products with Toeplitz matrices and `rows` what rounding
leaves open of it, `polynomial` puts the two together. `choice` decides between softmax and polynomials,
`run` goes through the heads, and `report` says what was done.
"""
