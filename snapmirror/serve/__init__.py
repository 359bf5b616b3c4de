"""Serving a store over HTTP, read-only.

In the order of a request: `workers` (processes and signals), `app` (one process), `view` (what is being served), `fresh`
(metadata that is read first), `send` (the answer), `resolve` and `search` (what a path names; `answers`: what that may be),
`documents` and `listing` (bodies that are made; kept by `bodies`), `blobs` (files; what is not held `pull` fetches in `turns`,
and `coming` is what a client reads meanwhile), `respond` (conditions, ranges, headers), `parts` (the bytes on the wire),
`access` (the log). Nothing is imported here: `settings` is read by every verb, and aiohttp takes 0.2 s to load.
"""
