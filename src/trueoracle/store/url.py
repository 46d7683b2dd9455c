"""Where the store is if nobody says."""

DEFAULT_URL = "sqlite:///trueoracle.db"
