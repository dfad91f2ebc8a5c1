"""A judge that is no model: an HTTP server with the latencies, token counts and quirks of real ones."""

from guardrail.simulator.judge import Call, JudgeSimulator, Rule
from guardrail.simulator.profile import MEASURED_ODD_SHARE
from guardrail.simulator.running import running

__all__ = ["MEASURED_ODD_SHARE", "Call", "JudgeSimulator", "Rule", "running"]
