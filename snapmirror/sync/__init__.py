"""Sync: read, plan, fetch, settle, publish.

`plan` decides (pure), `fetch` has files brought, `directory` carries one directory through, `engine` all of them to a
sealed snapshot. Knows ecosystems only by the protocol of `ecosystem`.
"""
