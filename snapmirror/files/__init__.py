"""Directories of files behind a listing: installers, releases.

settings    the keys of a `[[repo]]`
files       what `sync` and `serve` call
upstream    which listings are read, folder by folder
reading     what becomes a leaf
pages       HTML listings: Anaconda's table, nginx, Apache, fancyindex
releases    JSON listings: GitHub's releases, lists of {url, sha256}
sums        SHA256SUMS, and the `.sha256` beside a file
names       names of files, globs, versions in names
leaf        one file
tree        a folder that other tools have mirrored
"""

from .files import Files as Files
from .settings import FilesRepo as FilesRepo
