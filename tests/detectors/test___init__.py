from guardrail import detectors


def test_the_public_names_are_sorted_and_exist() -> None:
    assert detectors.__all__ == sorted(detectors.__all__)
    assert all(hasattr(detectors, name) for name in detectors.__all__)
