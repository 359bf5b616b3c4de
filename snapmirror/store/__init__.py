"""The store: blobs, index, directories, snapshots, trees, locks, gc and check.

Knows nothing of conda: bytes, digests and names. Who needs to see inside a leaf passes a function. Start with
`layout` (where things lie), `directories` and `records` (what is stored), `store` (one opened store), `seal` (the
commit), `gc` (what is deleted when).
"""
