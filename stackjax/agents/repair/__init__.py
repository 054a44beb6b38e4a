"""Sets of actions that recorded turns support, how they are chosen, and audits of need."""

from stackjax.agents.repair._audit import Audit, audit
from stackjax.agents.repair._candidates import (
    Candidate,
    nested_boxes,
    predicted_quality,
    single_cells,
    support_ellipsoids,
)
from stackjax.agents.repair._cells import (
    action_sets,
    admissible_cells,
    reference_cell,
    stratum,
    summarise_cells,
)
from stackjax.agents.repair._choice import ActionSetChoice, Confirmation, Judged, Requirements
from stackjax.agents.repair._need_head import (
    NeedHead,
    NeedReport,
    ToolMisses,
    fit_need,
    tool_misses,
)
from stackjax.agents.repair._selection import confirm_action_set, select_action_set

__all__ = [
    "ActionSetChoice",
    "Audit",
    "Candidate",
    "Confirmation",
    "Judged",
    "NeedHead",
    "NeedReport",
    "Requirements",
    "ToolMisses",
    "action_sets",
    "admissible_cells",
    "audit",
    "confirm_action_set",
    "fit_need",
    "nested_boxes",
    "predicted_quality",
    "reference_cell",
    "select_action_set",
    "single_cells",
    "stratum",
    "summarise_cells",
    "support_ellipsoids",
    "tool_misses",
]
