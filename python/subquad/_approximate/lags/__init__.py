"""Softmax attention by polynomials, with a bias over lags, a head at a time.

Tokens are cut into blocks. Keys in the blocks around a query's are attended to exactly; of all others the
bias splits into few functions of the query times few of the key (`routes`, `smooth`), so that sums over
features, block by block, are enough (`far`). Where no such split is known, weights of all pairs are sums of
Toeplitz products (`whole`).
"""
