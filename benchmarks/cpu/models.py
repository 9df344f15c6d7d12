"""The models that the CPU benchmarks serve: bundled ones by name, others by folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

ASSETS = Path(__file__).parents[2] / "server" / "assets"
BLOCK_SIZE = 32
# As the server serves the demo models on CPU.
DTYPE, _DTYPE_BYTES = "float32", 4


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint.

    Attributes:
        name: as it stands in tables.
        path: its folder.
        kv_bytes_per_token: of all layers.
    """

    name: str
    path: Path
    kv_bytes_per_token: int

    @classmethod
    def find(cls, name: str) -> "Model":
        """A bundled model, or a folder; a folder of that name comes first.

        Raises:
            BenchmarkError: there is neither, or its configuration cannot be used.
        """
        path = Path(name) if Path(name).is_dir() else ASSETS / name
        if not (path / "config.json").is_file():
            bundled = ", ".join(sorted(folder.parent.name for folder in ASSETS.glob("*/config.json")))
            raise BenchmarkError(
                f"model is {name!r}, but must be one of {bundled}, or a folder with a config.json. Choose one of these."
            )
        try:
            text = json.loads((path / "config.json").read_text(encoding="utf-8"))["text_config"]
            head_size = text["hidden_size"] // text["num_attention_heads"]
            numbers = 2 * text["num_hidden_layers"] * text["num_key_value_heads"] * head_size
        except (ValueError, KeyError, TypeError) as error:
            raise BenchmarkError(
                f"config.json of model {name} does not describe a Qwen2.5-VL ({type(error).__name__}: {error}). "
                "Choose another model."
            ) from error
        return cls(path.resolve().name, path.resolve(), numbers * _DTYPE_BYTES)

    def kv_bytes(self, num_requests: int, num_tokens: int) -> int:
        """A KV cache that holds so many requests of so many tokens, whole blocks and vLLM's null block included."""
        num_blocks = num_requests * -(-num_tokens // BLOCK_SIZE) + 1
        return num_blocks * BLOCK_SIZE * self.kv_bytes_per_token
