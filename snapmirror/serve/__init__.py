"""Serving a store over HTTP, read-only.

In the order of a request: `workers` (processes and signals), `app` (one process), `view` (what is being served), `resolve`
and `search` (what a path names; `answers`: what that may be), `documents` and `listing` (bodies that are made; kept by
`bodies`), `respond` (conditions, ranges, headers, the bytes on the wire). Nothing is imported here: `settings` is read by
every verb, and aiohttp takes 0.2 s to load.
"""
