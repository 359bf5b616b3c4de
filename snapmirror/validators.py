"""What an HTTP server says of the age of a document (RFC 9110 section 8.8)."""

import msgspec


class Validators(msgspec.Struct, frozen=True, array_like=True):
    """ETag and Last-Modified as sent; empty where the server gave none."""

    etag: str = ""
    modified: str = ""

    def __bool__(self) -> bool:
        return bool(self.etag or self.modified)
