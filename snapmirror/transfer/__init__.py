"""How bytes come from upstreams: `sync` fetches them beforehand, `serve` when somebody asks.

settings    the `[download]` table
sessions    what requests are made with: retries, credentials, certificates, proxies, of each host
wire        connections on which whole answers arrive in time
http        requests: limits, bodies as they arrive, metadata documents
local       the same for upstreams that are folders
hosts       which hosts have failed too often
origin      where a listed file can be had
download    fetches one file, resumable and verified
notes       where ecosystems note what they have found out
"""
