"""How bytes come from upstreams: what `sync` does beforehand, and `serve` when somebody asks.

settings    the `[download]` table
http        requests: retries, limits, metadata documents
sessions    what they are made with: credentials, certificates, proxies, of each host
wire        connections on which whole answers arrive in time
local       upstreams that are folders
hosts       which of them have failed too often
origin      where a listed file can be had
download    one file, resumable and verified
notes       what is remembered of upstreams
"""
