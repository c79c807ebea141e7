"""Tables of what recipes of training are worth."""

from benchmarks.figures.markdown import signed, table
from benchmarks.figures.results import read_result

SCORES = ("val accuracy", "val auroc", "test accuracy", "test auroc", "test ece")
POINTS = ("accuracy", "refused", "wrong_unrefused")


def corrupted_views() -> str:
    """Each recipe's scores, and the change from the first by seed."""
    first, second = (row["compared"] for row in read_result("recipes")["recipes"])
    lines = []
    for name in SCORES:
        change = second[name]["change"]
        digits = f"{signed(change['mean'], 4)} ± {change['sd']:.4f}"
        lines.append([name, *(f"{row[name]['mean']:.4f}" for row in (first, second)), digits])
    heads = ("of three seeds", "default", "corrupted views", "change ± deviation")
    return table(heads, lines)


def corrupted_kinds() -> str:
    """The same under corruption of severity three: means, in percent."""
    recipes = read_result("recipes")["recipes"]
    first, second = (row["compared"] for row in recipes)
    lines = []
    for row in recipes[0]["runs"][0]["stress"]:
        cell = f"{row['kind']} {row['severity']}"
        cells = []
        for name in POINTS:
            before, after = (100 * one[f"{cell} {name}"]["mean"] for one in (first, second))
            cells.append(f"{before:.1f} → {after:.1f}")
        change = second[f"{cell} wrong_unrefused"]["change"]
        cells.append(f"{signed(100 * change['mean'], 1)} ± {100 * change['sd']:.1f}")
        lines.append([row["kind"], *cells])
    heads = ("kind", "right", "refused", "wrong and not refused", "change ± deviation")
    return table(heads, lines)
