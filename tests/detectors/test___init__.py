from guardrail import detectors


def test_the_public_names_exist_once() -> None:
    assert len(set(detectors.__all__)) == len(detectors.__all__)
    assert all(hasattr(detectors, name) for name in detectors.__all__)
