"""``guardrail.yaml`` as frozen models: the shape only. ``build`` makes objects of it."""

from guardrail.config.classifier import ClassifierConfig, EscalationConfig, JudgeConfig
from guardrail.config.load import load_config
from guardrail.config.presidio import PresidioConfig
from guardrail.config.refusals import RefusalConfig
from guardrail.config.sections import (
    AuditSinkConfig,
    CacheConfig,
    Config,
    FailConfig,
    HistoryConfig,
    OnErrorConfig,
    PoliciesConfig,
    RedactionConfig,
    UpstreamConfig,
)

__all__ = [
    "AuditSinkConfig",
    "CacheConfig",
    "ClassifierConfig",
    "Config",
    "EscalationConfig",
    "FailConfig",
    "HistoryConfig",
    "JudgeConfig",
    "OnErrorConfig",
    "PoliciesConfig",
    "PresidioConfig",
    "RedactionConfig",
    "RefusalConfig",
    "UpstreamConfig",
    "load_config",
]
