"""Where the store is: if nobody says, and as others may read it."""

import re

DEFAULT_URL = "sqlite:///trueoracle.db"

_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^@]*(?=@)|(?<=[?&]password=)[^&]*")


def shown_url(url: str) -> str:
    """The URL without the password that may stand in it: for messages and pages."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:***" if found[1] is not None else "***", url)
