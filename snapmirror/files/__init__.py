"""The ecosystem of folders of files behind a listing: installers, releases.

Start with `leaf` (the one form that everything is kept in), `upstream` (which listings are read) and `entries` (what a listing
says of a file, whatever its format), `files` (the protocol of `ecosystem`).
"""

from .files import Files as Files
from .settings import FilesRepo as FilesRepo
