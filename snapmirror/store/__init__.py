"""The store: blobs, index, directories, snapshots, trees, locks, gc and check.

It knows bytes, digests and names, and nothing of conda or PyPI: who wants it to look into a leaf passes a function. Start with
`layout` (where things lie), `directories` and `records` (what is stored), `store` (one opened store), `seal` (the
commit), `gc` (what is deleted when). The format is in man snapmirror-store.
"""
