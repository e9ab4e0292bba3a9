"""The kernel knows each policy of the router by its position in the list of the scenario's schema."""

from envelope.serving.kernel import policy
from envelope.spec.routing import POLICIES


def test_the_numbers_of_the_policies_are_their_positions() -> None:
    assert [getattr(policy, name.upper()) for name in POLICIES] == list(range(len(POLICIES)))
