"""The text of bodies: UTF-8, and no half of a surrogate pair.

Python's parser takes other encodings and halves, too. But an answer that repeats a half cannot be written, and other
checks look at the bytes of a body.
"""

import json
import re

# In JSON that is written in ASCII, as by Python's writer, most of these are one of a pair.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def problem_of_text(body: bytes) -> str | None:
    """What stands against the text of a JSON body, in a sentence with the remedy; None when nothing does.

    What is no JSON at all is left to vLLM's own refusal.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"Byte {error.start} of the body is no UTF-8, but JSON must be UTF-8. Encode it so."
    # As in UTF-16 and UTF-32, which Python guesses by it.
    if b"\0" in body:
        return f"Byte {body.index(0)} of the body is NUL, but JSON must be UTF-8 and escape control characters. Do so."
    if _HALF.search(body) is None:
        return None
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        return f"The body holds {half} alone, but that is half of a surrogate pair. Send whole characters."
    except (ValueError, RecursionError):
        return None
    return None
