"""The only room that knows every other: configuration in, live objects out."""

from guardrail.build.guard import Guard, build_guard, build_judges, build_proxy, load_guard
from guardrail.build.judges import Judges

__all__ = ["Guard", "Judges", "build_guard", "build_judges", "build_proxy", "load_guard"]
