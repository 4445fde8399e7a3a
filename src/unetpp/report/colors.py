"""Colors of the report, light and dark: text reaches a contrast of 4.5, lines and bars one of 3 (WCAG AA)."""

from __future__ import annotations

THEME: dict[str, tuple[str, str]] = {
    "paper": ("#f5f7fa", "#0f141a"),
    "card": ("#ffffff", "#181f27"),
    "ink": ("#1f2933", "#e6ebf1"),
    "muted": ("#5b6875", "#a3b0bd"),
    "line": ("#e3e8ee", "#2c3642"),
    "accent": ("#1f5fd0", "#8ab4ff"),
    "bar": ("#dfe9fb", "#24395c"),
    "good": ("#1c7a52", "#4cc38f"),
    "poor": ("#b4540a", "#f0964a"),
    # folds, and depths if there are many
    "color-0": ("#2f6fde", "#6ea2ff"),
    "color-1": ("#d2691a", "#f0964a"),
    "color-2": ("#21885f", "#4cc38f"),
    "color-3": ("#a855c8", "#c98be6"),
    "color-4": ("#d64550", "#f0717a"),
    "color-5": ("#0f8ba0", "#3bbfd4"),
    "color-6": ("#8a6d3b", "#c7a66a"),
    "color-7": ("#5b6bbf", "#95a3ee"),
    # depths: the deeper, the further from the background
    "depth-0": ("#6792eb", "#4673cf"),
    "depth-1": ("#4a7ee3", "#5b8cf0"),
    "depth-2": ("#2c64d2", "#7ba6f8"),
    "depth-3": ("#1b50b6", "#9bbefc"),
    "depth-4": ("#123a8a", "#bcd4fd"),
    "depth-5": ("#0b2559", "#dde9ff"),
}
"""Name in the page -> color in light and in dark."""


def list_light(kind: str) -> tuple[str, ...]:
    """List the light colors of a kind: color or depth."""
    return tuple(light for name, (light, _) in THEME.items() if name.startswith(f"{kind}-"))
