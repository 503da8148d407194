"""The held-out protocol's report as a table, and its insertion into a document."""

from typing import Any

from gencompositor_jax.errors import InputError

ROWS = {
    "background": "background only",
    "region_mean": "mean colour of the target region (oracle)",
    "element_mean": "mean colour of the element, in its silhouette (oracle)",
    "color_transfer": "colour transfer (Reinhard)",
    "seamless_clone": "OpenCV `seamlessClone`",
    "paste": "plain paste",
    "model_alone": "the network's frames, pasted back",
    "model_mean": "the element with the network's mean colours",
    "model": "**this model**",
}
COLUMNS = {"target": "target region", "ring": "8-pixel ring", "silhouette": "silhouette"}
BEGIN, END = "<!-- {}:begin -->", "<!-- {}:end -->"


def table(report: dict[str, Any]) -> str:
    """Markdown: a row per method, a column per region, and the model's gains below."""
    means = report["mean_db"]
    lines = ["| PSNR, dB | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for method, label in ((name, ROWS[name]) for name in ROWS if name in means):
        bold = "**" if method == "model" else ""
        cells = [f"{bold}{means[method][region]:.1f}{bold}" for region in COLUMNS]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    protocol = report["protocol"]
    against = [
        f"{_gain(report['model_gain_db'][method]['target'])} dB against {name}"
        for method, name in (
            ("region_mean", "the target region's mean colour"),
            ("element_mean", "the element's"),
            ("seamless_clone", "`seamlessClone`"),
            ("paste", "the paste"),
        )
    ]
    lines += [
        "",
        f"{protocol['clips']} held-out clips of {protocol['frames']} frames, {protocol['steps']} sampling "
        "steps. Per clip, PSNR over the region's pixels of all frames; then the mean over the clips' dB. "
        "The model in the target region (mean difference and its 95 % interval): " + ", ".join(against) + ".",
    ]
    return "\n".join(lines)


def plate_table(report: dict[str, Any]) -> str:
    """Markdown of `plate.run`'s report: as `table`, with sharpness and flicker relative to the truth."""
    means, measures = report["mean_db"], ("gradient_energy", "flicker")
    heads = [*(f"{name}, dB" for name in COLUMNS.values()), "gradient energy", "flicker"]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for method, label in ((name, ROWS[name]) for name in ROWS if name in means):
        cells = [f"{means[method][region]:.1f}" for region in COLUMNS]
        cells += [f"{report[measure][method]['median']:.2f}" for measure in measures]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    protocol = report["protocol"]
    lines += [
        "",
        f"{protocol['clips']} held-out clips of {protocol['frames']} frames of {protocol['width']} x "
        f"{protocol['height']}, seen by the model at {protocol['model_width']} x {protocol['model_height']}, "
        f"{protocol['steps']} sampling steps. Gradient energy (sharpness) and flicker are those of the "
        "silhouette relative to the ground truth's, medians over clips; 1 is right.",
    ]
    return "\n".join(lines)


def insert(document: str, text: str, name: str = "heldout") -> str:
    """The document with `text` in place of what is between the markers BEGIN and END of a name.

    Raises InputError unless it has both markers, once and in this order.
    """
    begin, end = BEGIN.format(name), END.format(name)
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(end) < document.index(begin):
        raise InputError(
            f"the document must have one {begin} and, after it, one {end}: add them where the table belongs"
        )
    before, rest = document.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def _gain(gain: dict[str, Any]) -> str:
    half = gain["half_width_95"]
    return f"{gain['mean']:+.1f}" + ("" if half is None else f" ± {half:.1f}")
