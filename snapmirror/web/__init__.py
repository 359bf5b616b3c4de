"""The pages for people at `/` and below `/-/page/`."""

from .pages import faces as faces
