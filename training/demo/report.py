"""Held-out accuracy as text: one line for the progress bar, Markdown tables for the documentation."""


def accuracy_line(held_out: dict) -> str:
    """All figures in one line."""
    parts = [f"image {held_out['image']['accuracy']:.3f}, video {held_out['video']['accuracy']:.3f}"]
    parts += [
        f"{media} {name} {result['accuracy']:.2f}"
        for media, results in held_out["types"].items()
        for name, result in results.items()
    ]
    parts += [f"{name} {result['accuracy']:.2f}" for name, result in held_out["sizes"].items()]
    return "; ".join(parts)


def accuracy_tables(held_out: dict) -> str:
    """Two Markdown tables: by question type (with the totals), and by what is in the prompt."""
    types = held_out["types"]
    lines = ["| question type | images | videos |", "| --- | --- | --- |"]
    for name in {name: None for media in ("image", "video") for name in types[media]}:
        lines.append(f"| `{name}` | {_cell(types['image'].get(name))} | {_cell(types['video'].get(name))} |")
    lines.append(f"| **all** | **{_cell(held_out['image'])}** | **{_cell(held_out['video'])}** |")
    lines += ["", "| in the prompt | visual tokens | accuracy |", "| --- | --- | --- |"]
    for name, result in held_out["sizes"].items():
        lines.append(f"| {name} | {result['num_visual_tokens']} | {_cell(result)} |")
    return "\n".join(lines)


def _cell(result: dict | None) -> str:
    return f"{100 * result['accuracy']:.1f} %" if result else ""
