"""Every word of the demo task in one place: what can be drawn and how questions about it read."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (245, 230, 50),
    "green": (50, 180, 60),
    "cyan": (60, 215, 225),
    "blue": (50, 80, 220),
    "purple": (160, 60, 200),
    "white": (245, 245, 245),
}
"""Colour name -> RGB, all far from each other and from the dark background."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
DIGITS: tuple[str, ...] = tuple("0123456789")

QUESTIONS: dict[str, str] = {
    "shape_color": "What color is the {shape}?",
    "digit_color": "What color is the digit {digit}?",
    "color_shape": "Which shape is {color}?",
    "color_digit": "Which digit is {color}?",
    "first_digit": "What is the leftmost digit?",
    "last_digit": "What is the rightmost digit?",
    "read_digits": "Read the digits from left to right.",
    "bar_value": "What is the value of the {color} bar?",
    "tallest_bar": "Which bar is the tallest?",
    "earliest_digit": "Which digit appears first?",
    "latest_digit": "Which digit appears last?",
}
"""Question type -> wording; the type is the `type` field of `questions.jsonl`."""

UNASKED: tuple[str, ...] = (
    "What color is the {shape} in picture {index}?",
    "Which picture shows the {shape}?",
    "Read the digits in the order they appear.",
)
"""Wordings that only the vocabulary knows: questions that were tried and left out of the task (docs/demo-model.md)."""
