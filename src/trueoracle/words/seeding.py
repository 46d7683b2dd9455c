"""Where every random number comes from: a seed is a hash of what it is for, never a counter or a clock."""

from hashlib import sha256


def derive_seed(digest: str, purpose: str, index: int = 0) -> int:
    """The seed, in [0, 2^63), of one random purpose of the study with this `digest`.

    Seeds of different purposes or indices are independent, so adding a purpose changes no other result.
    """
    name = f"{digest}/{purpose}/{index}".encode()
    return int.from_bytes(sha256(name).digest()[:8], "big") >> 1
