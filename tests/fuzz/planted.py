"""A fault that only coverage finds: the fuzzer is tested with it."""


def check(data: bytes) -> None:
    """Fails for `MAIL` at the beginning, one letter after the other."""
    if data[:1] == b"M":  # noqa: SIM102  # a branch for each letter
        if data[1:2] == b"A":  # noqa: SIM102  a branch for the fuzzer to find
            if data[2:3] == b"I":
                assert data[3:4] != b"L"
