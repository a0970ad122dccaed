"""Findings as text, as JSON and as an exit code."""
from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from .finding import Finding

MARKS = {'ok': 'ok     ', 'partly': 'partly ', 'absent': 'absent ', 'broken': 'BROKEN '}


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when something required is absent or broken, else 0."""
    return int(any(finding.blocking for finding in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for a program."""
    content = {'exit_code': exit_code(findings), 'findings': [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=1)


def as_text(findings: Sequence[Finding], summary: str | None = None) -> str:
    """The findings as a table, by area, each gap with its next step below it.

    Args:
        findings: in order.
        summary: last line; None says whether something required is missing.
    """
    width = max((len(finding.name) for finding in findings), default=0)
    lines: list[str] = []
    area = None
    for finding in findings:
        if finding.area != area:
            lines += ['', finding.area] if lines else [finding.area]
            area = finding.area

        note = ' (required)' if finding.blocking else ''
        lines.append(f'  {MARKS[finding.state]} {finding.name:<{width}}  {finding.detail}{note}')
        if finding.next_step:
            lines.append(f'  {"":7} {"":{width}}  -> {finding.next_step}')

    missing = ', '.join(finding.name for finding in findings if finding.blocking)
    if summary is None:
        summary = f'Required and missing: {missing}' if missing else 'Everything required is there.'
    return '\n'.join([*lines, '', summary])
