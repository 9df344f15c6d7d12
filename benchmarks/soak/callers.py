"""Who asks in a soak: keys with and without policies, and one that the server does not know."""

OPEN, NARROW, RATED = (f"soak-{name}-0123456789abcdef" for name in ("open", "narrow", "rated"))
UNKNOWN = "soak-nobody-0123456789abcdef"
# Below the smallest value that NARROW may ask for.
TOO_SPARSE_FOR_NARROW = 0.3

KEY_FILE = f"""
[open]
keys = ["{OPEN}"]

[narrow]
keys = ["{NARROW}"]
min_sparsity_p = 0.5

[rated]
keys = ["{RATED}"]
requests_per_minute = 5
"""


def headers(key: str) -> dict[str, str]:
    """What a caller sends beside the body."""
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
