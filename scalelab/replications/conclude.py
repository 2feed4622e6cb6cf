"""Findings → the verdict of a replication, in its files: verdict.json and the head of LOG.md."""

import json
import re
from collections.abc import Sequence

from scalelab.console import markdown
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.replications.finding import Agreement, Finding, Verdict
from scalelab.replications.replication import LOG_FILE, VERDICT_FILE, Replication
from scalelab.spec import as_plain

MARKS = ("¹", "²", "³", "⁴", "⁵")  # of the notes to a table
START, END = "<!-- verdict -->", "<!-- /verdict -->"
HEAD = re.compile(rf"\A# [^\n]*\n+{START}\n.*?{END}\n", re.DOTALL)


def conclude(replication: Replication, *, agreement: Agreement, seen: str, findings: Sequence[Finding] = ()) -> str:
    """Write what was found of a claim: `seen` in one sentence, with the numbers that matter. Gives it as Markdown.

    The same findings leave the same texts.

    Raises:
        Refused: on a sentence that is none; on a verdict without findings, unless nothing could be run here.
    """
    if not seen.strip() or "\n" in seen or "|" in seen:
        raise Refused(f"{replication.name}: what was seen is one line, without bars, as it becomes a row of a table")
    if not findings and agreement is not Agreement.NOT_RUN:
        raise Refused(f"{replication.name}: {agreement} needs findings, numbers that say so")
    verdict = Verdict(agreement=agreement, seen=seen.strip(), findings=tuple(each.rounded() for each in findings))
    write_atomically(
        replication.folder / VERDICT_FILE,
        json.dumps(as_plain(verdict), indent=1, ensure_ascii=False) + "\n",
    )
    log = replication.folder / LOG_FILE
    text = log.read_text() if log.exists() else ""
    write_atomically(log, head(replication, verdict) + HEAD.sub("", text))
    return head(replication, verdict)


def head(replication: Replication, verdict: Verdict) -> str:
    """The first lines of a LOG.md: the claim under its verdict, what was seen, and the findings."""
    said = str(verdict.agreement)
    claim = replication.claim
    lines = [f"# {said[0].upper()}{said[1:]}: {claim.claim}", "", START, claim.source, "",
             f"**Seen here:** {verdict.seen}"]  # fmt: skip
    if verdict.findings:
        notes = dict(zip(dict.fromkeys(each.note for each in verdict.findings if each.note), MARKS, strict=False))
        rows = [(each.name + notes.get(each.note or "", ""), each.number, str(each.n)) for each in verdict.findings]
        lines += ["", markdown(("finding", "value [95 %]", "runs"), rows)]
        lines += [line for note, mark in notes.items() for line in ("", f"{mark} {note}")]
    return "\n".join([*lines, END, ""])
