"""A section's figures: those of the drawings that it names."""

from collections.abc import Sequence
from dataclasses import replace

from scalelab.plots import Drawing
from scalelab.report.inline import inline
from scalelab.report.section import Picture, Section

FOLDED = ("optimum_pairs", "loss_pairs")
LARGEST_FOLDED = 100_000  # bytes of SVG: clouds of draws, which nobody asks for a point


def illustrated(section: Section, drawn: Sequence[Drawing]) -> Section:
    """The section with its figures; one of several groups has the number of its group behind its name."""
    found = []
    for name in section.figures:
        for drawing in drawn:
            stem, _, number = drawing.name.rpartition("_")
            if drawing.name == name or (stem == name and number.isdigit()):
                alt = f"{drawing.title}. {drawing.caption}"
                body = inline(drawing.figure, drawing.name, alt, largest=LARGEST_FOLDED if name in FOLDED else None)
                found.append(Picture(title=drawing.title, caption=drawing.caption, body=body, folded=name in FOLDED))
    return replace(section, pictures=(*section.pictures, *found))
