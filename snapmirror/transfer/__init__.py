"""How bytes come from upstreams: what `sync` does beforehand, and `serve` when somebody asks.

settings    the `[download]` table
http        requests: sessions, retries, limits, metadata documents
local       upstreams that are folders
hosts       which of them have failed too often
origin      where a listed file can be had
download    one file, resumable and verified
notes       what is remembered of upstreams
"""
