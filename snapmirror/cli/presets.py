"""The configurations that `init` writes. None of them starts a download of terabytes, with or without its comments."""

_TOP = """\
# snapmirror.toml: what to mirror, and how. `man snapmirror.toml` explains every key.
# Relative paths are relative to this file.

store = "store"
# max_cache = "200GB"      # how much `snapmirror gc` keeps of files that were fetched on demand

[download]
connections = 8            # transfers at once; per_host = 4 of them to one host
retries = 5
# bandwidth = "50MB/s"     # over all connections
# min_free = "3%"          # what a sync always leaves free on the disk

[retention]                # nothing set: every snapshot is kept. `snapmirror gc` applies it.
# daily = 30
# monthly = 24
# yearly = 10

[publish]
keep_trees = "30d"         # how long snapshots are exported as folders of hard links; current and pins always

"""

_SERVE = """\
[serve]
host = "127.0.0.1"         # "0.0.0.0" to be reached from elsewhere
port = 8080

"""

_PLAIN = """\
# One [[repo]] for each channel. "redirect" keeps every day's metadata, a few megabytes, and sends clients to upstream
# for the packages. Nothing is mirrored until you take the # away; to copy packages too, say download = "eager", and run
# `snapmirror sync --dry-run` first: it prints how much that is. All of conda-forge is over 10 TB.

# [[repo]]
# kind = "conda"
# path = "conda-forge"
# upstream = "https://conda.anaconda.org/conda-forge"
# subdirs = ["linux-64"]   # noarch always comes along
# download = "redirect"
"""

_PYPI = """
# Python packages: the projects that are named, or that requirements = ["requirements.txt", "uv.lock"] name. projects = "all"
# is all of PyPI, tens of terabytes. [repo.select] narrows it: with_dependencies, newest, platforms, min_age, ...

# [[repo]]
# kind = "pypi"
# path = "pypi"              # pip and uv: http://.../current/pypi/simple/
# upstream = "PyPI"
# projects = ["pip", "uv"]
"""

_CONDA_FORGE = """\
# A small part of conda-forge, with its packages: what is named here and what that needs, each in the newest version that
# fits. Name what you work with, and run `snapmirror sync --dry-run`: it prints how much that is before anything is fetched.
# Without [repo.select] this would be all of conda-forge for these subdirs: terabytes.
#
# To have all of it as of every day without the packages, say download = "redirect" and leave [repo.select] out: snapshots
# then hold the metadata, a few megabytes a day, and clients are sent to upstream for the packages.

[[repo]]
kind = "conda"
path = "conda-forge"
upstream = "https://conda.anaconda.org/conda-forge"
subdirs = ["linux-64"]     # noarch always comes along
max_age = "3d"             # `snapmirror status` complains if the last sync is longer ago

[repo.select]
include = ["python >=3.12", "pip", "numpy"]
with_dependencies = true
newest = 1                 # versions of each name, and builds of each version
newest_builds = 1
# min_age = "7d"           # no file younger than that
# include_from = ["environment.yml"]
"""

_ANACONDA = """\
# The layout of the usual Anaconda mirror: anaconda/pkgs, anaconda/cloud, anaconda/archive, anaconda/miniconda.
#
# With download = "redirect" snapshots hold the metadata of every day, and clients are sent to upstream for the packages.
# That is some megabytes a day. To copy packages too, say "eager" for one channel after the other, narrow it with [repo.select]
# (`man snapmirror.toml`), and run `snapmirror sync --dry-run`: it prints how much that is. All of conda-forge is over 10 TB.
# `snapmirror adopt` takes in what an existing mirror already has.

[[repo]]
kind = "conda"
path = "anaconda/cloud"
upstream = "https://conda.anaconda.org"
download = "redirect"
subdirs = ["linux-64", "osx-64", "osx-arm64", "win-64"]    # noarch always comes along; what a channel does not have is empty
bz2 = true                 # old clients and the common mirror scripts ask for these two
current_repodata = true
max_age = "3d"             # `snapmirror status` complains if the last sync is longer ago
channels = [
    "conda-forge",
    "bioconda",
    # "auto",
    # "biobakery",
    # { name = "c4aarch64", subdirs = ["linux-aarch64"] },
    # "caffe2",
    # "deepmodeling",
    # "dglteam",
    # "fastai",
    # "fermi",
    # "huggingface",
    # "idaholab",
    # "intel",
    # "matsci",
    # "menpo",
    # "mordred-descriptor",
    # "msys2",
    # "numba",
    # { name = "numba/label/dev", subdirs = ["win-64"] },
    # "ohmeta",
    # "omnia",
    # "Paddle",
    # "plotly",
    # "psi4",
    # "pytorch",
    # "pytorch3d",
    # "pytorch-test",
    # "pyviz",
    # "qiime2",
    # "rapidsai",
    # "rdkit",
    # "simpleitk",
    # "stackless",
    # "ursky",
]

# Licence: what follows is Anaconda's own. Its terms of service ask for a licence for mirroring it, and for using it in
# larger organisations; conda-forge and bioconda ask for neither. Take the # away only if you have one.

# [[repo]]
# kind = "conda"
# path = "anaconda/pkgs"
# upstream = "https://repo.anaconda.com/pkgs"
# download = "redirect"
# subdirs = ["linux-64", "osx-64", "osx-arm64", "win-64"]
# bz2 = true
# current_repodata = true
# max_age = "3d"
# channels = ["main", "free", "r", "msys2"]

# Installers, of each kind the newest. All of them are over a terabyte.

# [[repo]]
# kind = "files"
# path = "anaconda/archive"
# upstream = "https://repo.anaconda.com/archive"
# include = ["Anaconda3-*-Linux-x86_64.sh", "Anaconda3-*-MacOSX-arm64.sh", "Anaconda3-*-Windows-x86_64.exe"]
# newest = 1

# [[repo]]
# kind = "files"
# path = "anaconda/miniconda"
# upstream = "https://repo.anaconda.com/miniconda"
# include = ["Miniconda3-*-Linux-x86_64.sh", "Miniconda3-*-MacOSX-arm64.sh", "Miniconda3-*-Windows-x86_64.exe"]
# newest = 1
"""

_NEXUS = """\
[serve]
host = "0.0.0.0"
port = 8081                # where a Nexus listens

# In the place of a Nexus: in the settings of clients only the host changes.
#
#     pip, uv     http://.../repository/pypi/simple
#     conda       http://.../repository/conda-forge or http://.../repository/conda-forge/main
#
# Nothing is copied in advance. An index is read when it is asked for, and believed for max_metadata_age; a file is fetched
# when it is first asked for, verified, and kept. `snapmirror sync` seals what is known by then, so that clients can have it
# back by its date: http://.../2026-11-20/repository/pypi/simple. `man snapmirror.toml` has a table of what each setting of a
# Nexus is called here.

[[repo]]
kind = "pypi"
path = "repository/pypi"
upstream = "PyPI"
download = "on-demand"
metadata = "on-request"
# max_metadata_age = "10m"
# block = [".*/mycompany[-_].*"]         # names that upstream is never asked for

[[repo]]
kind = "conda"
path = "repository/conda-forge"
upstream = "https://conda.anaconda.org/conda-forge"
subdirs = ["linux-64"]     # what clients run on: "linux-aarch64", "osx-arm64", "win-64"; noarch always comes along
download = "on-demand"
metadata = "on-request"

# The same channel by its label: for clients that have /main at the end. Its packages are kept once.

[[repo]]
kind = "conda"
path = "repository/conda-forge/main"
upstream = "https://conda.anaconda.org/conda-forge"
subdirs = ["linux-64"]
download = "on-demand"
metadata = "on-request"

# A Nexus proxy of all of Anaconda's own channels, with their names below it. Its terms of service ask for a licence.

# [[repo]]
# kind = "conda"
# path = "repository/anaconda"
# upstream = "https://repo.anaconda.com/pkgs"
# channels = ["main", "r", "msys2"]
# subdirs = ["linux-64"]
# download = "on-demand"
# metadata = "on-request"
"""

#: by the name that `init --preset` takes; "" for none
PRESETS = {
    "": _TOP + _SERVE + _PLAIN + _PYPI,
    "anaconda": _TOP + _SERVE + _ANACONDA + _PYPI,
    "conda-forge": _TOP + _SERVE + _CONDA_FORGE + _PYPI,
    "nexus": _TOP + _NEXUS,
}
