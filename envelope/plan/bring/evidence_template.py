"""An evidence file to fill in: the gates and records that a scenario asks for, all commented out."""

from envelope.plan.rules.exposure import UNSAFE_TASK
from envelope.spec.scenario import Scenario

_PROBES = ("leak-probe", "recovery", "latency-check", UNSAFE_TASK)
"""Probes besides the scenario's own task classes."""


def evidence_template(scenario: Scenario) -> str:
    """Return YAML for ``evidence/<id>.yaml`` beside the scenario; as it stands it holds no evidence and no gate."""
    first = scenario.candidates[0]
    model = first.pools[0].model if first.pools else first.hosted.api if first.hosted else ""
    lines = [
        f"# Evidence for the scenario {scenario.id}: save as evidence/{scenario.id}.yaml beside it.",
        "# Nothing here counts until you take the comment signs away and put your own results in.",
        "# One record is one model in one format on one kind of task: how many trials, how many passed.",
        "records: []",
        "# records:",
    ]
    for task in (*(t.id for t in scenario.workload.tasks), *_PROBES):
        lines += [
            f"#   - task: {task}",
            f"#     model: {model}            # id in the catalog (envelope models, envelope hosted)",
            "#     weights: native           # the format that was evaluated",
            "#     adaptation: none          # as the candidate names it",
            "#     trials: 1                 # your number",
            "#     passes: 0                 # your number",
            "#     kind: private             # public benchmark scores are shown and settle no gate",
            "#     date: '2000-01-01'        # your date",
            "#     revision: ''              # pinned revision of the weights, or the API's snapshot",
            "#     harness: ''               # program and version; envelope evidence --import reads its results",
        ]
    lines += [
        "gates: []",
        "# gates:                        # a candidate without enough evidence is infeasible",
        "#   - {id: no-leaks, task: leak-probe, max_failure_frac: 0.01, confidence_frac: 0.95, min_trials: 500}",
    ]
    lines += [
        f"#   - {{id: {t.id}-works, task: {t.id}, max_failure_frac: 0.2, confidence_frac: 0.95}}"
        for t in scenario.workload.tasks
    ]
    return "\n".join(lines) + "\n"
